import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatRdmaUri, parseRdmaUri } from '../../lib/protocol/uri.ts';
import { failure, orMigrationError } from './errors.ts';

describe('parseRdmaUri', () => {
  it.each([
    ['rdma:127.0.0.1:4444', '127.0.0.1', 4444],
    ['rdma:0.0.0.0:0', '0.0.0.0', 0],
    ['rdma:[::1]:65535', '::1', 65535],
    ['rdma:[::]:1', '::', 1],
    ['rdma:[fe80::1%eth0]:4444', 'fe80::1%eth0', 4444],
    ['rdma:host-1.example.org:4444', 'host-1.example.org', 4444],
    ['rdma:localhost:04444', 'localhost', 4444],
  ])('reads %s', (uri, host, port) => {
    expect(parseRdmaUri(uri)).toEqual({ host, port });
  });

  it.each([
    ['', 'rdma:'],
    ['tcp:host:1', 'rdma:'],
    ['RDMA:host:1', 'rdma:'],
    ['rdma:', 'port is missing'],
    ['rdma://host:1', 'slashes'],
    ['rdma:host', 'port is missing'],
    ['rdma:[::1]', 'port is missing'],
    ['rdma::4444', 'host is missing'],
    ['rdma:host:', 'the port is ""'],
    ['rdma:host:65536', '65535'],
    ['rdma:host:-1', '65535'],
    ['rdma:host:+1', '65535'],
    ['rdma:host: 1', '65535'],
    ['rdma:host:1e3', '65535'],
    ['rdma:host:0x10', '65535'],
    ['rdma:host:123456', '65535'],
    ['rdma:host:1,ipv6=on', 'options'],
    ['rdma:::1:4444', 'brackets'],
    ['rdma:fe80::1:4444', 'brackets'],
    ['rdma:[::1:4444', 'brackets'],
    ['rdma:[127.0.0.1]:1', 'IPv6'],
    ['rdma:[]:1', 'IPv6'],
    ['rdma:300.1.1.1:1', 'IPv4'],
    ['rdma:1.2.3:1', 'IPv4'],
    ['rdma:ho st:1', 'host name'],
    ['rdma:-host:1', 'host name'],
    ['rdma:a..b:1', 'host name'],
    ['rdma:host/path:1', 'host name'],
    [`rdma:${'a'.repeat(254)}:1`, 'host name'],
  ])('refuses %j and says why', (uri, why) => {
    const error = failure(() => parseRdmaUri(uri), 'INVALID_URI');
    expect(error.message).toContain(why);
    expect(error.phase).toBe('configure');
  });

  it('reads back what formatRdmaUri writes', () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(fc.record({ host, port: fc.nat(65535) }, { noNullPrototype: true }), (address) => {
        expect(parseRdmaUri(formatRdmaUri(address))).toEqual(address);
      }),
    );
  });

  it('any text only ever brings a MigrationError', () => {
    fc.assert(fc.property(fc.string(), (text) => void orMigrationError(() => parseRdmaUri(`rdma:${text}`))));
  });
});

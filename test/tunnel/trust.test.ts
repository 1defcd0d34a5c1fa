import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { MigrationDestination } from '../../lib/migration/destination/destination.ts';
import { MigrationSource } from '../../lib/migration/source/source.ts';
import { TunnelDestination } from '../../lib/tunnel/destination.ts';
import { TunnelSource } from '../../lib/tunnel/source.ts';
import { credentialSets } from '../support/credentials.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';
import { everything, TcpProxy } from '../support/tcp-proxy.ts';
import { brokenBy, Ends, noise, readAll, sha } from './ends.ts';

const sets = credentialSets();

describe('a tunnel with credentials', () => {
  it.each(['good', 'psk'] as const)('protects its streams (%s)', async (set) => {
    const tls = { creds: sets[set] };
    await using ends = await Ends.open({ source: { tls }, destination: { tls } });
    const [near, far] = await ends.pair();
    const bytes = noise(3_000_000);
    near.end(bytes);
    far.end('back');
    expect([sha(await readAll(far)), String(await readAll(near))]).toEqual([sha(bytes), 'back']);
  });

  it('shows nothing of them on the wire', async () => {
    const text = 'this is not to be read ';
    const seen = async (tls?: { creds: string }): Promise<Buffer> => {
      let proxy: TcpProxy | undefined;
      const options = tls ? { tls } : {};
      await using ends = await Ends.open({
        source: options,
        destination: options,
        through: async (port) => {
          proxy = await TcpProxy.open(port);
          return proxy.uri;
        },
      });
      const [near, far] = await ends.pair();
      near.end(Buffer.alloc(20_000, text));
      far.end();
      await readAll(far);
      await ends.told.source.end();
      const said = everything(proxy?.conversations ?? []);
      await proxy?.[Symbol.asyncDispose]();
      return said;
    };
    expect((await seen()).includes(text)).toBe(true);
    expect((await seen({ creds: sets.psk })).includes(text)).toBe(false);
  });

  it.each([
    { name: 'another authority', source: 'good', destination: 'otherCa', code: 'TLS_FAILED' },
    { name: 'another key', source: 'psk', destination: 'otherPsk', code: 'TLS_FAILED' },
    { name: 'the wrong name', source: 'wrongName', destination: 'wrongName', code: 'TLS_FAILED' },
  ] as const)('refuses $name', async ({ source, destination, code }) => {
    await using ends = await Ends.open({
      source: { tls: { creds: sets[source] } },
      destination: { tls: { creds: sets[destination] } },
    });
    await brokenBy(await ends.near());
    expect((await ends.told.source.refusal()).code).toBe(code);
  });

  it('refuses who is not named', async () => {
    const creds = sets.good;
    await using ends = await Ends.open({
      source: { tls: { creds } },
      destination: { tls: { creds, authz: ['somebody else'] } },
    });
    await brokenBy(await ends.near());
    expect((await ends.told.source.refusal()).code).toBe('NOT_AUTHORIZED');
  });

  it('does without them on neither side alone', async () => {
    const tls = { creds: sets.good };
    await using one = await Ends.open({ destination: { tls } });
    await brokenBy(await one.near());
    expect((await one.told.source.refusal()).code).toBe('TLS_REQUIRED');
    await using other = await Ends.open({ source: { tls } });
    await brokenBy(await other.near());
    expect((await other.told.source.refusal()).code).toBe('TLS_REQUIRED');
  });
});

describe('a tunnel', () => {
  it('lets only those addresses in that may come', async () => {
    await using ends = await Ends.open({ destination: { allow: ['192.0.2.0/24'] } });
    await brokenBy(await ends.near());
    expect((await ends.told.destination.refusal()).code).toBe('NOT_AUTHORIZED');
  });

  it('says that the other end is a migration, and a migration that it is a tunnel', async () => {
    await using target = new MemoryTarget();
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
    const stop = new AbortController();
    const receiving = destination.receive({ signal: stop.signal }).catch(() => {});
    const refusals: string[] = [];
    await using source = await TunnelSource.listen(
      'tcp:127.0.0.1:0',
      destination.uri,
      { once: true },
      {
        refused: (_, { message }) => void refusals.push(message),
      },
    );
    const port = Number(/\d+$/.exec(source.address)?.[0]);
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    await expect(source.serve()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(refusals[0]).toContain('one end of a migration');
    socket.destroy();
    stop.abort();
    await receiving;

    await using tunnel = await TunnelDestination.listen('rdma:127.0.0.1:0', 'tcp:127.0.0.1:1');
    await using vm = await MemoryVm.create({ 'pc.ram': 65_536n });
    await expect(new MigrationSource(vm, tunnel.uri).migrate()).rejects.toMatchObject({
      message: expect.stringContaining('tunnel'),
    });
  });
});

/** How both ends of an attacked migration prove who they are, and over how many channels it goes. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DestinationOptions, SourceOptions } from '../../../lib/index.ts';
import { Authority, CLIENT, pair, SERVER, SERVER_NAMES } from '../../support/authority.ts';

export interface Way {
  readonly name: string;
  readonly channels: number;
  readonly source: Pick<SourceOptions, 'tls' | 'crc' | 'channels' | 'verify'>;
  readonly destination: Pick<DestinationOptions, 'tls' | 'crc'>;
}

type Tls = Pick<Way, 'source' | 'destination'>;

const HOSTNAME = 'server.example';

/** Credentials as objects: no migration reads a file. */
export function x509(): Tls {
  const root = mkdtempSync(join(tmpdir(), 'rdma-migrate-attack-'));
  try {
    const ca = new Authority(join(root, 'ca'), 'Example CA');
    ca.issue('server', { ...SERVER, names: SERVER_NAMES });
    ca.issue('client', { ...CLIENT, names: 'DNS:client.example' });
    const folder = ca.set('both', { ...pair('server'), ...pair('client') });
    const text = (file: string): string => readFileSync(join(folder, file), 'utf8');
    const end = (role: string) => ({
      ca: text('ca-cert.pem'),
      cert: text(`${role}-cert.pem`),
      key: text(`${role}-key.pem`),
    });
    return {
      source: { tls: { creds: end('client'), hostname: HOSTNAME } },
      destination: { tls: { creds: end('server') } },
    };
  } finally {
    rmSync(root, { recursive: true });
  }
}

export function psk(): Tls {
  const tls = { creds: { keys: { qemu: '5a'.repeat(32) } } };
  return { source: { tls }, destination: { tls } };
}

export function way(name: string, { source, destination }: Tls, channels: number): Way {
  return { name, channels, source: { ...source, channels }, destination };
}

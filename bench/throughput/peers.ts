/** What the machine does without us: the C++ programs of native_peers.cc, iperf3, and openssl. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { ownChild } from '../support/leftovers.ts';
import { output } from '../support/program.ts';
import type { Row, Sample } from './sample.ts';

const PROGRAM = fileURLToPath(new URL('../../../bench/native_peers', import.meta.url));

const KINDS = {
  memcpy: { label: 'memcpy, both sides touched', kind: 'limit' },
  'touch-mapping': { label: 'first touch by a copy into the mapping', kind: 'limit' },
  'touch-pwrite': { label: 'first touch by pwrite', kind: 'limit' },
  socket: { label: 'raw socket loop, touched memory', kind: 'limit' },
  'socket-mapping': { label: 'raw socket loop into a fresh mapping', kind: 'limit' },
  'socket-pwrite': { label: 'raw socket loop, pwrite into a fresh file', kind: 'limit' },
} as const;

export type NativePeer = keyof typeof KINDS;

const taken = z.object({ seconds: z.number(), cpuSeconds: z.number() });

export function nativePeer(
  peer: NativePeer,
  bytes: number,
  named: { readonly id?: string; readonly label?: string } = {},
): Row {
  const measure = async (): Promise<Sample> =>
    taken.parse(JSON.parse(await output(PROGRAM, [peer, String(bytes)])));
  return { id: peer, ...KINDS[peer], bytes, measure, ...named };
}

const iperfReport = z.object({
  end: z.object({
    sum_received: z.object({ bits_per_second: z.number(), seconds: z.number() }),
    cpu_utilization_percent: z.object({ host_total: z.number(), remote_total: z.number() }),
  }),
});

/** `zeroCopy`: its option -Z, which sends by sendfile. Calls of 1 MiB, with which it is faster than with its own 128 KiB. */
export function iperf3(zeroCopy: boolean, bytes: number): Row {
  return {
    id: zeroCopy ? 'iperf3-z' : 'iperf3',
    label: zeroCopy ? 'iperf3 -Z (sendfile)' : 'iperf3',
    kind: 'peer',
    bytes,
    measure: () => moveByIperf3(zeroCopy, bytes),
  };
}

async function moveByIperf3(zeroCopy: boolean, bytes: number): Promise<Sample> {
  const port = String(await freePort());
  const server = ownChild(
    spawn('iperf3', ['-s', '-1', '-B', '127.0.0.1', '-p', port, '--forceflush'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  );
  try {
    const [said] = (await once(server.stdout, 'data', { signal: AbortSignal.timeout(10_000) })) as [Buffer];
    if (!said.includes('-')) throw new Error(`iperf3 does not listen: ${said}`);
    const { end } = iperfReport.parse(
      JSON.parse(await output('iperf3', clientArguments(port, zeroCopy, bytes))),
    );
    const { bits_per_second: rate, seconds } = end.sum_received;
    const { host_total: here, remote_total: there } = end.cpu_utilization_percent;
    return { seconds: (bytes * 8) / rate, cpuSeconds: ((here + there) / 100) * seconds };
  } finally {
    server.kill('SIGKILL');
  }
}

function clientArguments(port: string, zeroCopy: boolean, bytes: number): string[] {
  const most = ['-c', '127.0.0.1', '-p', port, '-n', String(bytes), '-l', '1M', '-J'];
  return zeroCopy ? [...most, '-Z'] : most;
}

/** What sealing a byte costs, and opening it again as much: as much content as a record of TLS has at most, by one core. */
export function aesGcm(bytes: number): Row {
  return {
    id: 'aes-256-gcm',
    label: 'AES-256-GCM, one core (openssl speed)',
    kind: 'limit',
    bytes,
    measure: () => sealByOpenssl(bytes),
  };
}

async function sealByOpenssl(bytes: number): Promise<Sample> {
  const briefly = ['-elapsed', '-seconds', '1', '-bytes', '16384'];
  const said = await output('openssl', ['speed', '-mr', ...briefly, '-evp', 'aes-256-gcm']);
  const bytesPerSecond = Number(/^\+F:\d+:AES-256-GCM:([\d.]+)$/m.exec(said)?.[1]);
  if (!(bytesPerSecond > 0)) throw new Error(`openssl speed does not say how fast it is: ${said}`);
  const seconds = bytes / bytesPerSecond;
  return { seconds, cpuSeconds: seconds };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

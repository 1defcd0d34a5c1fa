/** Ways for a TCP stream from one process to another on loopback: right away, or through programs in between. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { ownChild } from '../support/leftovers.ts';

/** Kernel clock ticks per second, as /proc counts CPU time. */
const TICKS = 100;

/** Where to connect, and what carries the bytes from there. */
export interface Way extends AsyncDisposable {
  readonly port: number;
  /** Of the programs in between, so far. */
  cpuSeconds(): number;
}

export interface WayKind {
  readonly id: string;
  readonly label: string;
  /** To a port of 127.0.0.1 where somebody listens. */
  open(port: number): Promise<Way>;
}

const tcp: WayKind = {
  id: 'tcp',
  label: 'plain tcp',
  open: async (port) => ({ port, cpuSeconds: () => 0, [Symbol.asyncDispose]: async () => {} }),
};

/** Both ends of it, as one would use it over a network. */
const socat = (id: string, label: string, options: readonly string[]): WayKind => ({
  id,
  label,
  open: async (port) => {
    const to = (at: number) => (listen: string) => [listen, `TCP:127.0.0.1:${at},nodelay`];
    const far = await socatAt(options, to(port));
    const near = await socatAt(options, to(far.port));
    return wayOf(near.port, [near.child, far.child]);
  },
});

/** `addresses`: its two, of which one is that where it listens. */
export async function socatAt(
  options: readonly string[],
  addresses: (listen: string) => readonly string[],
): Promise<{ port: number; child: ChildProcess }> {
  const port = await freePort();
  const listen = `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,nodelay`;
  const args = ['-d', '-d', ...options, ...addresses(listen)];
  const child = ownChild(spawn('socat', args, { stdio: ['ignore', 'ignore', 'pipe'] }));
  await line(child.stderr as Readable, /listening on/);
  child.stderr?.resume();
  return { port, child };
}

const tunnel = (id: string, label: string, options: readonly string[]): WayKind => ({
  id,
  label,
  open: async (port) => {
    const far = tunnelEnd('rdma:127.0.0.1:0', '--to', `tcp:127.0.0.1:${port}`, ...options);
    const [, uri] = await line(far.stdout as Readable, /"uri":"(rdma:[^"]+)"/);
    const near = tunnelEnd('--listen', 'tcp:127.0.0.1:0', String(uri), ...options);
    const [, entry] = await line(near.stdout as Readable, /"uri":"tcp:127.0.0.1:(\d+)"/);
    return wayOf(Number(entry), [near, far]);
  },
});

function tunnelEnd(...args: readonly string[]): ChildProcess {
  const command = ['dist/cli/main.js', 'tunnel', '--json', '--provider', 'iwarp', ...args];
  return ownChild(spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] }));
}

export const WAYS: readonly WayKind[] = [
  tcp,
  socat('socat', 'two socat', []),
  socat('socat-256k', 'two socat -b 262144', ['-b', '262144']),
  tunnel('tunnel', 'our tunnel', []),
  tunnel('tunnel-no-crc', 'our tunnel, --no-crc', ['--no-crc']),
];

function wayOf(port: number, children: readonly ChildProcess[]): Way {
  for (const { stdout, stderr } of children) for (const stream of [stdout, stderr]) stream?.resume();
  return {
    port,
    cpuSeconds: () => children.reduce((sum, child) => sum + cpuOf(child), 0),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(children.map(end));
    },
  };
}

/** 0 of one that has ended. */
function cpuOf({ pid }: ChildProcess): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch {
    return 0;
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function line(stream: Readable, pattern: RegExp): Promise<RegExpExecArray> {
  const lines = createInterface({ input: stream });
  try {
    for (;;) {
      const [text] = (await once(lines, 'line', { signal: AbortSignal.timeout(10_000) })) as [string];
      const found = pattern.exec(text);
      if (found) return found;
    }
  } finally {
    lines.close();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

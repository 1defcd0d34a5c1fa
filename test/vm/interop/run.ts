/** The interop matrix on one device: boots the VM, serves our end outside, runs the cases inside. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Device, Forward } from '../arguments.ts';
import { CHECKOUT } from '../checkout.ts';
import { runInMachine } from '../machine.ts';
import type { Bench } from '../setup.ts';
import type { InsideSettings } from './inside.ts';
import { localEnd } from './our-end.ts';
import { serveEnd } from './remote-end.ts';

export interface InteropOptions {
  readonly device: Exclude<Device, 'none'>;
  readonly verbs: boolean;
  /** Run only cases whose name contains this text. */
  readonly only?: string;
  /** Cases of other devices too. */
  readonly every?: boolean;
  /** Measure, with the bench of spans.ts, instead of running the cases. */
  readonly times?: boolean;
}

/** One for each migration into QEMU, so that no case meets a port that the previous one has just released. */
const GUEST_PORTS = Array.from({ length: 24 }, (_, index) => 4440 + index);
const TIMEOUT_MS = 45 * 60_000;
export const MEMORY_MIB = 6144;

/** Ports that are free now; the VM takes them within a second. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

async function forwards(): Promise<Forward[]> {
  const ports = await freePorts(GUEST_PORTS.length);
  return GUEST_PORTS.map((guest, index) => ({ host: ports[index] as number, guest }));
}

/** Serves our end outside and finds ports, while `work` runs the matrix in a VM with these settings. */
export async function withInteropSettings<T>(
  { device, verbs, only = '', every = false, times = false }: InteropOptions,
  work: (settings: InsideSettings) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-interop-'));
  await using ours = await localEnd({ folder, provider: 'iwarp', address: '127.0.0.1' });
  const server = await serveEnd(ours);
  // iWARP is plain TCP, which passes QEMU's user networking; RoCE is not.
  const control = device === 'siw' ? { control: server.port } : {};
  try {
    return await work({ device, verbs, only, every, times, forward: await forwards(), ...control });
  } finally {
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The command that runs the matrix in the VM. */
export function interopCommand(settings: InsideSettings): string[] {
  const inside = relative(CHECKOUT, fileURLToPath(new URL('inside.js', import.meta.url)));
  return ['node', inside, JSON.stringify(settings)];
}

/** @returns the exit code: 0 when all cases passed */
export function runInterop(bench: Bench, options: InteropOptions, signal?: AbortSignal): Promise<number> {
  return withInteropSettings(options, (settings) =>
    runInMachine(bench, {
      device: options.device,
      memoryMiB: MEMORY_MIB,
      forward: settings.forward,
      unprivileged: false,
      timeoutMs: TIMEOUT_MS,
      verbose: false,
      command: interopCommand(settings),
      stdout: process.stdout,
      stderr: process.stderr,
      inMemory: true,
      ...(signal && { signal }),
    }),
  );
}

/**
 * Stock QEMU on the same RAM: a machine that never runs, whose memory is a file of random bytes, moves to another whose memory is a memfd that
 * nobody has touched. Two new processes for each migration; their start is not counted.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { QmpClient } from 'rdma-migrate';
import { z } from 'zod';
import { HOSTNAME } from '../../test/support/authority.ts';
import { ownChild, ownPath, removePath } from '../support/leftovers.ts';
import type { Row, Sample } from './sample.ts';

export const QEMU = 'qemu-system-x86_64';
const TIMEOUT_MS = 120_000;
const LOOK_MS = 50;
/** Kernel clock ticks per second, as /proc counts CPU time. */
const TICKS = 100;
/** Bytes per second, more than any: QEMU's own limit is 128 MiB/s. */
const NO_LIMIT = 2 ** 40;
/** The id of QEMU's object. */
const CREDENTIALS = 'tls0';

export interface QemuSettings {
  /** Multifd channels; 0: plain tcp. */
  readonly multifd: number;
  readonly file: string;
  readonly bytes: number;
  /** A folder with the credentials of both ends. Absent: nothing is protected. */
  readonly creds?: string | undefined;
  /** What carries it from another port of 127.0.0.1 to that one. Absent: nothing in between. */
  readonly through?: (port: number) => Promise<AsyncDisposable & { readonly port: number }>;
}

export function qemuRow(settings: QemuSettings): Row {
  const { multifd, bytes, creds } = settings;
  const [id, label] =
    multifd === 0 ? ['tcp', 'over tcp'] : [`multifd-${multifd}`, `multifd, ${multifd} channels`];
  return {
    id: `qemu/${id}${creds === undefined ? '' : '/tls'}`,
    label: `QEMU ${label}${creds === undefined ? '' : ', TLS'}`,
    kind: 'peer',
    bytes,
    measure: () => migrate(settings),
  };
}

class Qemu implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly qmp: QmpClient;

  private constructor(child: ChildProcess, qmp: QmpClient) {
    this.#process = child;
    this.qmp = qmp;
  }

  static async start(
    folder: string,
    name: string,
    backend: string,
    bytes: number,
    more: string[],
  ): Promise<Qemu> {
    const socket = join(folder, name);
    const machine = [
      '-machine',
      'q35,memory-backend=ram',
      '-accel',
      'tcg',
      '-cpu',
      'qemu64',
      '-m',
      `${bytes / 2 ** 20}M`,
    ];
    const quiet = ['-S', '-nodefaults', '-display', 'none', '-qmp', `unix:${socket},server=on,wait=off`];
    const args = [...machine, '-object', `${backend},id=ram,size=${bytes},share=on`, ...quiet, ...more];
    const child = ownChild(spawn(QEMU, args, { stdio: ['ignore', 'ignore', 'pipe'] }));
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    try {
      return new Qemu(child, await connected(socket, child));
    } catch (error) {
      child.kill('SIGKILL');
      throw new Error(`QEMU does not start: ${said.trim() || (error as Error).message}`);
    }
  }

  /** Of all its threads, from its start. */
  get cpuSeconds(): number {
    const fields = readFileSync(`/proc/${this.#process.pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.qmp.close();
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }
}

async function connected(socket: string, child: ChildProcess): Promise<QmpClient> {
  for (let tries = TIMEOUT_MS / LOOK_MS; ; tries--) {
    try {
      return await QmpClient.connect({ socket });
    } catch (error) {
      if (tries === 0 || child.exitCode !== null) throw error;
      await pause(LOOK_MS);
    }
  }
}

const status = z.object({
  status: z.string().optional(),
  'total-time': z.number().optional(),
  'error-desc': z.string().optional(),
  ram: z.object({ transferred: z.number() }).optional(),
});

export async function migrate(settings: QemuSettings): Promise<Sample> {
  const folder = ownPath(await mkdtemp(join(tmpdir(), 'rdma-migrate-bench-qemu-')));
  try {
    return await between(folder, settings);
  } finally {
    removePath(folder);
  }
}

async function between(folder: string, settings: QemuSettings): Promise<Sample> {
  const { file, bytes, creds } = settings;
  const from = `memory-backend-file,mem-path=${file}`;
  await using source = await Qemu.start(folder, 'source', from, bytes, credentials('client', creds));
  await using target = await Qemu.start(folder, 'target', 'memory-backend-memfd', bytes, [
    ...credentials('server', creds),
    ...['-incoming', 'defer'],
  ]);
  for (const { qmp } of [source, target]) await prepare(qmp, settings);
  await target.qmp.execute('migrate-incoming', { uri: 'tcp:127.0.0.1:0' });
  const port = await portOf(target.qmp);
  await using way = await settings.through?.(port);
  const before = source.cpuSeconds + target.cpuSeconds;
  await source.qmp.execute('migrate', { uri: `tcp:127.0.0.1:${way?.port ?? port}` });
  const milliseconds = await completed(source.qmp, bytes);
  await arrived(target.qmp);
  const cpuSeconds = source.cpuSeconds + target.cpuSeconds - before;
  return { seconds: milliseconds / 1000, totalSeconds: milliseconds / 1000, cpuSeconds };
}

const credentials = (endpoint: 'client' | 'server', creds: string | undefined): string[] =>
  creds === undefined
    ? []
    : ['-object', `tls-creds-x509,id=${CREDENTIALS},dir=${creds},endpoint=${endpoint},verify-peer=on`];

async function prepare(qmp: QmpClient, { multifd, creds }: QemuSettings): Promise<void> {
  const capabilities = [{ capability: 'multifd', state: multifd > 0 }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
  const channels = multifd > 0 ? { 'multifd-channels': multifd } : {};
  const tls = creds === undefined ? {} : { 'tls-creds': CREDENTIALS, 'tls-hostname': HOSTNAME };
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': NO_LIMIT, ...channels, ...tls });
}

const listening = z.object({
  'socket-address': z.array(z.object({ type: z.literal('inet'), host: z.string(), port: z.string() })),
});

async function portOf(qmp: QmpClient): Promise<number> {
  const { 'socket-address': addresses } = listening.parse(await qmp.execute('query-migrate'));
  const [address] = addresses;
  if (!address) throw new Error('QEMU does not say where it listens');
  return Number(address.port);
}

/** QEMU's own total time, milliseconds. */
async function completed(qmp: QmpClient, bytes: number): Promise<number> {
  for (const ends = performance.now() + TIMEOUT_MS; performance.now() < ends; await pause(LOOK_MS)) {
    const known = status.parse(await qmp.execute('query-migrate'));
    if (known.status === 'failed')
      throw new Error(`QEMU's migration failed: ${known['error-desc'] ?? 'it does not say why'}`);
    if (known.status !== 'completed') continue;
    const { 'total-time': milliseconds, ram } = known;
    if (milliseconds === undefined || (ram?.transferred ?? 0) < bytes)
      throw new Error('QEMU has not moved all of the RAM');
    return milliseconds;
  }
  throw new Error(`QEMU's migration did not end within ${TIMEOUT_MS / 1000} s`);
}

async function arrived(qmp: QmpClient): Promise<void> {
  for (const ends = performance.now() + TIMEOUT_MS; performance.now() < ends; await pause(LOOK_MS))
    if (status.parse(await qmp.execute('query-migrate')).status === 'completed') return;
  throw new Error('the destination QEMU has not taken the VM');
}

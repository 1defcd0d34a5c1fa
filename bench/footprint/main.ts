/**
 * What a migration costs the processes at its ends besides the RAM: how long their event loops are blocked, and how much private memory
 * they take. A 2 GiB synthetic VM between two processes over loopback, with pin-all and without.
 *
 *   npm run bench:footprint -- [--mib N]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fromQemu } from 'rdma-migrate';
import { syntheticStream } from '../../examples/synthetic/vm.ts';

interface Delay {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const END = fileURLToPath(new URL('end.js', import.meta.url));
const SAMPLE_MS = 20;

/** Private memory of a process, in MiB: RAM blocks are shared mappings and not included. */
async function privateMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '');
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}

async function message<T>(child: ChildProcess): Promise<T> {
  const [value] = (await once(child, 'message')) as [T];
  return value;
}

class End {
  readonly #child: ChildProcess;
  readonly #ready: Promise<unknown>;
  #before = 0;
  #peak = 0;

  constructor(args: string[], pinAll: boolean) {
    this.#child = fork(END, args, { env: { ...process.env, PIN_ALL: pinAll ? '1' : '0' } });
    this.#ready = message(this.#child);
  }

  async start(): Promise<void> {
    await this.#ready;
    this.#before = await privateMiB(this.#child.pid as number);
    this.#child.send('go');
  }

  uri(): Promise<{ uri: string }> {
    return message(this.#child);
  }

  async finish(): Promise<{ delay: Delay; before: number; peak: number }> {
    const timer = setInterval(async () => {
      this.#peak = Math.max(this.#peak, await privateMiB(this.#child.pid as number));
    }, SAMPLE_MS);
    const delay = await message<Delay>(this.#child);
    clearInterval(timer);
    return { delay, before: this.#before, peak: this.#peak };
  }
}

async function measure(folder: string, from: string, pinAll: boolean): Promise<void> {
  const to = join(folder, `to-${pinAll}`);
  const receiver = new End(['receive', to], pinAll);
  await receiver.start();
  const { uri } = await receiver.uri();
  const sender = new End(['send', from, uri], pinAll);
  await sender.start();
  const ends = { source: sender.finish(), destination: receiver.finish() };
  for (const [name, finished] of Object.entries(ends)) {
    const { delay, before, peak } = await finished;
    const loop = `event loop p50 ${delay.p50.toFixed(1)} p99 ${delay.p99.toFixed(1)} max ${delay.max.toFixed(1)} ms`;
    const memory = `private memory ${before.toFixed(0)} -> ${peak.toFixed(0)} MiB`;
    console.log(`${pinAll ? 'pin-all' : 'dynamic'}  ${name.padEnd(12)} ${loop}; ${memory}`);
  }
  await rm(to, { recursive: true });
}

const { values } = parseArgs({ options: { mib: { type: 'string', default: '2048' } } });
const block = (BigInt(values.mib) << 20n) / 4n;
const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-bench-'));
try {
  const from = join(folder, 'from');
  const fills = ['random', 'zero', 'sparse', 'mixed'] as const;
  await fromQemu(syntheticStream(fills.map((fill) => ({ name: fill, length: block, fill }))), from);
  for (const pinAll of [true, false]) await measure(folder, from, pinAll);
} finally {
  await rm(folder, { recursive: true, force: true });
}

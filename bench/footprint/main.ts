/**
 * What a migration costs the processes at its ends besides the RAM: how long their event loops are blocked, and how much private memory
 * they take. A 2 GiB synthetic VM between two processes over loopback, with pin-all and without.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromQemu } from 'rdma-migrate';
import { syntheticStream } from '../../examples/synthetic/vm.ts';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { ownChild, ownPath, removePath } from '../support/leftovers.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';

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
    this.#child = ownChild(fork(END, args, { env: { ...process.env, PIN_ALL: pinAll ? '1' : '0' } }));
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

async function measure(folder: string, from: string, pinAll: boolean): Promise<Cell[][]> {
  const to = join(folder, `to-${pinAll}`);
  const receiver = new End(['receive', to], pinAll);
  await receiver.start();
  const { uri } = await receiver.uri();
  const sender = new End(['send', from, uri], pinAll);
  await sender.start();
  const [source, destination] = await Promise.all([sender.finish(), receiver.finish()]);
  await rm(to, { recursive: true });
  return Object.entries({ source, destination }).map(([end, { delay, before, peak }]) => [
    pinAll ? 'pin-all' : 'dynamic',
    end,
    delay.p50,
    delay.p99,
    delay.max,
    before,
    peak,
  ]);
}

const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'end' },
  { head: 'event loop p50', unit: 'ms', digits: 1 },
  { head: 'p99', unit: 'ms', digits: 1 },
  { head: 'most', unit: 'ms', digits: 1 },
  { head: 'private memory before', unit: 'MiB', digits: 0 },
  { head: 'at its peak', unit: 'MiB', digits: 0 },
];

const command = benchCommand(
  'bench:footprint',
  'How long event loops are blocked, and memory besides the RAM, during a migration between images.',
)
  .option('--mib <n>', 'RAM to move: a quarter random, zero, sparse and mixed', wholeNumber(4, 2 ** 20), 2048)
  .option('--json <file>', 'write what was measured to a file');

await runBench<{ mib: number; json?: string }>(command, async ({ mib, json }) => {
  const machine = machineNow();
  const block = (BigInt(mib) << 20n) / 4n;
  const folder = ownPath(await mkdtemp(join(tmpdir(), 'rdma-migrate-bench-')));
  const status = new Status(2);
  const rows: Cell[][] = [];
  const from = join(folder, 'from');
  const fills = ['random', 'zero', 'sparse', 'mixed'] as const;
  await fromQemu(syntheticStream(fills.map((fill) => ({ name: fill, length: block, fill }))), from);
  for (const pinAll of [true, false]) {
    status.step(pinAll ? 'pin-all' : 'dynamic');
    rows.push(...(await measure(folder, from, pinAll)));
  }
  status.end();
  removePath(folder);
  const title = `A VM of ${mib} MiB from an image into an image: how late a timer of 1 ms fires, and private memory`;
  await tell(
    'footprint',
    { tables: [{ id: 'footprint', title, columns: COLUMNS, rows }] },
    { json, machine },
  );
});

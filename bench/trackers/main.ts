/** What finding written pages costs, without a migration around it: `collect` of each kind of tracker, and a bitmap of a VM too large for this machine. */
import { fileURLToPath } from 'node:url';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { output } from '../support/program.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column, Table } from '../support/table.ts';

const COLLECT = fileURLToPath(new URL('../../../bench/collect', import.meta.url));

/** The native program's words, and what is shown. A soft-dirty tracker needs another process, and a kernel that has it. */
const KINDS = [
  ['async', 'write-protect, asynchronous'],
  ['fault-thread', 'write-protect, fault thread'],
  ['log', "bitmap (the VMM's log)"],
  ['hash', 'hash'],
] as const;
const DIRTY_OF_BITMAP = [100, 10_000] as const;

interface Options {
  readonly gib: number;
  readonly touched: number;
  readonly dirty: number;
  readonly rounds: number;
  readonly bitmapGib: number;
  readonly json?: string;
}

/** A row: medians of the rounds, milliseconds; or why this machine has no such tracker. @throws Error it has found wrong pages */
async function measure(name: string, keys: readonly string[], args: readonly string[]): Promise<Cell[]> {
  const figures = JSON.parse(await output(COLLECT, args)) as Record<string, number> & { missing?: string };
  return [name, ...keys.map((key) => figures[key] ?? null), figures.missing ?? null];
}

const columns = (first: string, keys: readonly string[]): Column[] => [
  { head: first },
  ...keys.map((head) => ({ head, unit: 'ms' })),
  { head: 'missing' },
];

async function trackers({ gib, touched, dirty, rounds }: Options, status: Status): Promise<Table> {
  const keys = ['start', 'idle', 'collect', 'cpu'];
  const rows: Cell[][] = [];
  for (const [kind, name] of KINDS) {
    status.step(name);
    rows.push(await measure(name, keys, [kind, ...[gib, touched, dirty, rounds].map(String)]));
  }
  const title = `${gib} GiB with ${touched} MiB in use: start, collect with nothing written, with ${dirty} pages written, and its CPU time`;
  return { id: 'trackers', title, columns: columns('tracker', keys), rows };
}

async function bitmaps({ bitmapGib, rounds }: Options, status: Status): Promise<Table> {
  const keys = ['collect', 'count', 'iterate', 'clear', 'cpu'];
  const rows: Cell[][] = [];
  for (const dirty of DIRTY_OF_BITMAP) {
    status.step(`a bitmap with ${dirty} dirty pages`);
    const args = ['bitmap', ...[bitmapGib, 0, dirty, rounds].map(String)];
    rows.push(await measure(`${dirty} dirty pages`, keys, args));
  }
  const title = `The bitmap of ${bitmapGib} GiB: taken from a log, counted, gone over, cleared, and the CPU time of all four`;
  return { id: 'bitmaps', title, columns: columns('bitmap', keys), rows };
}

const most = 9_999_999;
const command = benchCommand(
  'bench:trackers',
  'What finding written pages costs, without a migration around it.',
)
  .option('--gib <n>', 'RAM that the trackers watch, GiB', wholeNumber(1, most), 16)
  .option('--touched <mib>', 'of it in use, in pieces of 2 MiB spread evenly', wholeNumber(1, most), 1024)
  .option(
    '--dirty <pages>',
    'written before each collect, spread evenly over what is in use',
    wholeNumber(1, most),
    10_000,
  )
  .option('--rounds <n>', 'collects that are measured', wholeNumber(1, most), 7)
  .option('--bitmap-gib <n>', 'RAM whose bitmap alone is gone over, GiB', wholeNumber(1, most), 1024)
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async (options) => {
  if (options.touched > options.gib * 1024)
    command.error(`error: --touched ${options.touched} is more than --gib ${options.gib}`);
  const machine = machineNow();
  const status = new Status(KINDS.length + DIRTY_OF_BITMAP.length);
  const tables = [await trackers(options, status), await bitmaps(options, status)];
  status.end();
  await tell('trackers', { tables }, { json: options.json, machine });
});

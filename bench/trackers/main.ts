/**
 * What finding written pages costs, without a migration around it: `collect` of each kind of tracker, and a bitmap of a VM too large for this machine.
 *
 *   npm run bench:trackers -- [--gib N] [--touched MIB] [--dirty PAGES] [--rounds N] [--bitmap-gib N] [--json]
 */
import { execFile } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const run = promisify(execFile);
const COLLECT = fileURLToPath(new URL('../../../bench/collect', import.meta.url));

const HELP = `What finding written pages costs, without a migration around it.

  npm run bench:trackers -- [options]

  --gib N          RAM that the trackers watch, GiB (default 16)
  --touched MIB    of it in use, in pieces of 2 MiB spread evenly (default 1024)
  --dirty PAGES    written before each collect, spread evenly over what is in use (default 10000)
  --rounds N       collects that are measured (default 7)
  --bitmap-gib N   RAM whose bitmap alone is gone over, GiB (default 1024); of its pages 100 and 10000 are dirty
  --json           one JSON object instead of tables
`;

/** The native program's words, and what is shown. A soft-dirty tracker needs another process, and a kernel that has it. */
const KINDS = [
  ['async', 'write-protect, asynchronous'],
  ['fault-thread', 'write-protect, fault thread'],
  ['log', "bitmap (the VMM's log)"],
  ['hash', 'hash'],
] as const;

interface Row {
  readonly name: string;
  /** Milliseconds; medians of the rounds, CPU time of all threads. */
  readonly ms?: Readonly<Record<string, number>>;
  /** Why there are none. */
  readonly missing?: string;
}

function wholeNumber(name: string, text: string | undefined): string {
  if (/^[1-9]\d{0,6}$/.test(text ?? '')) return text as string;
  process.stderr.write(`expected a whole number from 1 to 9999999 for --${name} but received ${text}\n`);
  return process.exit(2);
}

async function measure(name: string, args: readonly string[]): Promise<Row> {
  try {
    const { stdout } = await run(COLLECT, args);
    return { name, ms: JSON.parse(stdout) as Record<string, number> };
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return { name, missing: stderr?.trim() || message };
  }
}

function print(title: string, columns: readonly string[], rows: readonly Row[]): void {
  console.log(`\n${title}\n${''.padEnd(32)}${columns.map((column) => column.padStart(12)).join('')}`);
  for (const { name, ms, missing } of rows) {
    const figures = columns.map((column) => (ms?.[column] ?? Number.NaN).toFixed(2).padStart(12)).join('');
    console.log(name.padEnd(32) + (missing === undefined ? figures : `  ${missing}`));
  }
}

function options() {
  try {
    const number = { type: 'string' } as const;
    return parseArgs({
      options: {
        gib: { ...number, default: '16' },
        touched: { ...number, default: '1024' },
        dirty: { ...number, default: '10000' },
        rounds: { ...number, default: '7' },
        'bitmap-gib': { ...number, default: '1024' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    return process.exit(2);
  }
}

async function main(): Promise<void> {
  const { json, help, ...texts } = options();
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  const [gib, touched, dirty, rounds, bitmapGib] = (
    ['gib', 'touched', 'dirty', 'rounds', 'bitmap-gib'] as const
  ).map((name) => wholeNumber(name, texts[name])) as [string, string, string, string, string];
  const trackers: Row[] = [];
  for (const [kind, name] of KINDS) {
    if (!json) process.stderr.write(`${name} ...\n`);
    trackers.push(await measure(name, [kind, gib, touched, dirty, rounds]));
  }
  const bitmaps: Row[] = [];
  for (const count of ['100', '10000'])
    bitmaps.push(await measure(`${count} dirty pages`, ['bitmap', bitmapGib, '0', count, rounds]));
  if (json) {
    const machine = { cpus: cpus().length, model: cpus()[0]?.model, node: process.version };
    console.log(
      JSON.stringify({ ...machine, gib, touchedMib: touched, dirty, rounds, bitmapGib, trackers, bitmaps }),
    );
    return;
  }
  console.log(`${cpus().length} x ${cpus()[0]?.model}; milliseconds, medians of ${rounds} rounds`);
  print(
    `${gib} GiB with ${touched} MiB in use: start, collect with nothing written, with ${dirty} pages written, and its CPU time`,
    ['start', 'idle', 'collect', 'cpu'],
    trackers,
  );
  print(
    `The bitmap of ${bitmapGib} GiB: taken from a log, counted, gone over, cleared, and the CPU time of all four`,
    ['collect', 'count', 'iterate', 'clear', 'cpu'],
    bitmaps,
  );
}

await main();

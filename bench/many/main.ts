/**
 * Many migrations at once between two processes, over the software RNIC: what they cost, and whether one that fails delays the others.
 */
import { mkdtemp, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { type Cost, Peak } from '../support/cost.ts';
import { ownPath, removePath } from '../support/leftovers.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';
import type { Begin, Ended } from './end.ts';

const END = new URL('end.js', import.meta.url);

interface Outcome {
  readonly seconds: number;
  readonly sources: readonly Ended[];
  readonly destinations: readonly Ended[];
  readonly cost: { readonly source: Cost; readonly destination: Cost };
}

async function together(begin: Begin): Promise<Outcome> {
  await using destination = new Child(END);
  destination.say(begin);
  const { uris } = await destination.hear<{ uris: string[] }>();
  await using source = new Child(END);
  const { small: _, ...common } = begin;
  source.say({ ...common, uris });
  await source.hear();
  const peaks = { source: new Peak(source.pid), destination: new Peak(destination.pid) };
  const began = performance.now();
  source.say({ go: true });
  const [sources, destinations] = await Promise.all([source.hear<Ended[]>(), destination.hear<Ended[]>()]);
  const seconds = (performance.now() - began) / 1000;
  const cost = {
    source: await peaks.source.stop(),
    destination: await peaks.destination.stop(),
  };
  return { seconds, sources, destinations, cost };
}

const HELD = ['threads', 'descriptors', 'MiB'] as const;
const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'arrived', digits: 0 },
  { head: 'all within', unit: 's' },
  { head: 'the first after', unit: 's' },
  { head: 'the last after', unit: 's' },
  ...['source', 'destination'].flatMap((end) => HELD.map((what) => ({ head: `${end}: ${what}`, digits: 0 }))),
];

type Ends = Pick<Outcome, 'sources' | 'destinations'>;

/** Those that both ends have completed, as the source says it. */
const arrivedOf = ({ sources, destinations }: Ends): Ended[] =>
  sources.filter(({ failed }, index) => failed === null && destinations[index]?.failed === null);

function row(what: string, { seconds, sources, destinations, cost }: Outcome): Cell[] {
  const times = arrivedOf({ sources, destinations }).map(({ atMs }) => atMs / 1000);
  const held = [cost.source, cost.destination].flatMap(({ threads, descriptors, privateMiB }) => [
    threads,
    descriptors,
    privateMiB,
  ]);
  return [what, times.length, seconds, Math.min(...times), Math.max(...times), ...held];
}

/** Only the one with the small disk fails, and it does. */
function requireArrived(expected: number, ends: Ends): void {
  const failed = [...ends.sources, ...ends.destinations].flatMap(({ failed: code }) => code ?? []);
  const arrived = arrivedOf(ends).length;
  if (arrived !== expected)
    throw new Error(
      `${arrived} arrived, not ${expected}; failures: ${[...new Set(failed)].join(', ') || 'none'}`,
    );
}

/** A folder of our own on the small file system. @throws Error it is not small: it is filled to its end */
async function folderIn(small: string, bytes: number): Promise<string> {
  const { bavail, bsize } = await statfs(small);
  if (bavail * bsize >= bytes) throw new Error(`${small} has room for a VM of ${bytes / 2 ** 20} MiB`);
  return ownPath(await mkdtemp(join(small, 'rdma-migrate-bench-')));
}

interface Options {
  readonly count: number;
  readonly mib: number;
  readonly small?: string;
  readonly json?: string;
}

const command = benchCommand(
  'bench:many',
  'Many migrations at once between two processes, over the software RNIC.',
)
  .option('--count <n>', 'migrations', wholeNumber(2, 1000), 64)
  .option('--mib <n>', 'RAM of each', wholeNumber(1, 2 ** 20), 64)
  .option(
    '--small <folder>',
    'on a file system of less than --mib, such as a small tmpfs: the first migration goes there and fails',
  )
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async ({ count, mib, small, json }) => {
  const machine = machineNow();
  const common = { count, bytes: mib * 2 ** 20 };
  const folder = small && (await folderIn(small, common.bytes));
  const runs = [
    { what: 'one', begin: { ...common, count: 1 }, expected: 1 },
    { what: `${count} at once`, begin: common, expected: count },
    ...(folder
      ? [{ what: 'one of them with a full disk', begin: { ...common, small: folder }, expected: count - 1 }]
      : []),
  ];
  const status = new Status(runs.length);
  const rows: Cell[][] = [];
  for (const { what, begin, expected } of runs) {
    status.step(what);
    const outcome = await together(begin);
    requireArrived(expected, outcome);
    rows.push(row(what, outcome));
  }
  if (folder) removePath(folder);
  status.end();
  const title = `Migrations of ${mib} MiB between two processes; what each process holds at its most`;
  await tell('many', { tables: [{ id: 'many', title, columns: COLUMNS, rows }] }, { json, machine });
});

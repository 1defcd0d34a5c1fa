/**
 * A destination that a crowd besieges, and the real source that comes after: how soon its migration begins, and what the crowd costs.
 *
 * Of each kind (silent, slow, garbage, whole handshakes and then nothing) N come, and come again when they are sent away; then N are
 * refused at once, and in the middle of that the source comes.
 */
import { MigrationSource } from 'rdma-migrate';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { type Cost, costOf, Peak } from '../support/cost.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';
import { sourceVm } from '../throughput/memory-vm.ts';

const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'after', unit: 's' },
  { head: 'threads', digits: 0 },
  { head: 'descriptors', digits: 0 },
  { head: 'memory of its own', unit: 'MiB', digits: 0 },
];

const held = ({ threads, descriptors, privateMiB }: Cost): Cell[] => [threads, descriptors, privateMiB];

interface Options {
  readonly each: number;
  readonly refused: number;
  readonly mib: number;
  readonly json?: string;
}

/** What came of the migration, and who was turned away, in words. */
interface Said {
  readonly result: string;
  readonly strangers?: string;
}

/** @throws Error the destination has failed, or nobody besieged it */
function requireOrder({ result, strangers }: Said): void {
  if (result !== 'completed') throw new Error(`the destination: ${result}`);
  if (strangers === undefined) throw new Error('the destination has turned nobody away');
}

const command = benchCommand(
  'bench:strangers',
  'A destination besieged by a crowd, and the real source that comes after.',
)
  .option('--each <n>', 'strangers of each of four kinds', wholeNumber(1, 10_000), 250)
  .option('--refused <n>', 'requests of an unknown version', wholeNumber(1, 60_000), 8000)
  .option('--mib <n>', 'RAM to move', wholeNumber(1, 2 ** 20), 256)
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async ({ each, refused, mib, json }) => {
  const machine = machineNow();
  const progress = new Status(2);
  const rows: Cell[][] = [];
  await using vm = await sourceVm(BigInt(mib) << 20n);
  await using destination = new Child(new URL('destination.js', import.meta.url));
  const { uri } = await destination.hear<{ uri: string }>();
  rows.push(['destination before', null, ...held(await costOf(destination.pid))]);
  progress.step('the crowd comes');
  await using strangers = new Child(new URL('strangers.js', import.meta.url));
  const peak = new Peak(destination.pid);
  strangers.say({ port: Number(uri.split(':').at(-1)), each, refused });
  await strangers.hear();
  rows.push(['destination with the crowd', null, ...held(await costOf(destination.pid))]);

  progress.step('the source comes');
  const source = new MigrationSource(vm, uri, { provider: 'iwarp' });
  const began = performance.now();
  const since = (): number => (performance.now() - began) / 1000;
  source.on('phase', (phase) => rows.push([`source: ${phase}`, since(), null, null, null]));
  const { status } = await source.migrate();
  rows.push([`source: ${status}`, since(), null, null, null]);
  requireOrder(await destination.hear<Said>());
  rows.push(['destination at its most', null, ...held(await peak.stop())]);
  progress.end();
  const title = `${each} strangers of each of four kinds, ${refused} refused, and a VM of ${mib} MiB that comes in between`;
  await tell(
    'strangers',
    { tables: [{ id: 'strangers', title, columns: COLUMNS, rows }] },
    { json, machine },
  );
});

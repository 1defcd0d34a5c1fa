/**
 * A destination that a crowd besieges, and the real source that comes after: how soon its migration begins, and what the crowd costs.
 *
 * Of each kind (silent, slow, garbage, whole handshakes and then nothing; with --tls wrong credentials instead of those) N come, and come again when they
 * are sent away; then N are refused at once, and in the middle of that the source comes. They come from some addresses of their own: those of one address
 * share what it may take.
 */
import { MigrationSource } from 'rdma-migrate';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { type Cost, costOf, Peak } from '../support/cost.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';
import { sourceVm } from '../throughput/memory-vm.ts';
import { makeCredentials } from './credentials.ts';
import type { Crowd } from './strangers.ts';

const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'time', unit: 's', digits: 3 },
  { head: 'threads', digits: 0 },
  { head: 'descriptors', digits: 0 },
  { head: 'memory of its own', unit: 'MiB', digits: 0 },
];

const held = ({ threads, descriptors, privateMiB }: Cost): Cell[] => [threads, descriptors, privateMiB];

interface Options {
  readonly each: number;
  readonly refused: number;
  readonly hosts: number;
  readonly mib: number;
  readonly tls?: boolean;
  readonly json?: string;
}

/** What came of the migration, and who was turned away, in words. */
interface Said {
  readonly result: string;
  readonly strangers?: string;
  /** How often it has said that it refused one: each of the first, then each time when there were twice as many. */
  readonly refused: number;
  /** Of its event loop, milliseconds. */
  readonly delay: { readonly p99: number; readonly max: number };
}

/** @throws Error the destination has failed, or nobody besieged it */
function requireOrder({ result, strangers, refused }: Said): void {
  if (result !== 'completed') throw new Error(`the destination: ${result}`);
  if (strangers === undefined && refused === 0) throw new Error('the destination has turned nobody away');
}

const command = benchCommand(
  'bench:strangers',
  'A destination besieged by a crowd, and the real source that comes after.',
)
  .option('--each <n>', 'strangers of each of four kinds', wholeNumber(1, 10_000), 250)
  .option('--refused <n>', 'requests of an unknown version', wholeNumber(1, 60_000), 8000)
  .option('--hosts <n>', 'addresses that they come from', wholeNumber(1, 250), 20)
  .option('--tls', 'both ends have credentials, and some strangers have others')
  .option('--mib <n>', 'RAM to move', wholeNumber(1, 2 ** 20), 256)
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async ({ each, refused, hosts, mib, tls, json }) => {
  const machine = machineNow();
  const progress = new Status(2);
  const rows: Cell[][] = [];
  const row = (what: string, after: number | null, ...cells: Cell[]): void => {
    rows.push([what, after, ...cells]);
  };
  const made = tls ? makeCredentials() : undefined;
  await using vm = await sourceVm(BigInt(mib) << 20n);
  await using destination = new Child(new URL('destination.js', import.meta.url), made ? [made.folder] : []);
  const { uri } = await destination.hear<{ uri: string }>();
  row('destination before', null, ...held(await costOf(destination.pid)));
  progress.step('the crowd comes');
  await using strangers = new Child(new URL('strangers.js', import.meta.url));
  const peak = new Peak(destination.pid);
  const port = Number(uri.split(':').at(-1));
  const crowd: Crowd = { port, each, hosts, refused, ...(made && { strange: made.strange }) };
  strangers.say(crowd);
  await strangers.hear();
  row('destination with the crowd', null, ...held(await costOf(destination.pid)));

  progress.step('the source comes');
  const source = new MigrationSource(vm, uri, {
    provider: 'iwarp',
    ...(made && { tls: { creds: made.folder } }),
  });
  const began = performance.now();
  const since = (): number => (performance.now() - began) / 1000;
  source.on('phase', (phase) => row(`source: ${phase}`, since()));
  const { status } = await source.migrate();
  row(`source: ${status}`, since());
  const said = await destination.hear<Said>();
  requireOrder(said);
  row('destination at its most', null, ...held(await peak.stop()));
  row('destination after', null, ...held(await costOf(destination.pid)));
  destination.say({});
  row('event loop of the destination, p99', said.delay.p99 / 1000);
  row('event loop of the destination, longest', said.delay.max / 1000);
  progress.end();
  const who = `${each} strangers of each of four kinds from ${hosts} addresses, ${refused} refused`;
  const title = `${who}, and a VM of ${mib} MiB that comes in between${tls ? ', with TLS' : ''}`;
  await tell(
    'strangers',
    { tables: [{ id: 'strangers', title, columns: COLUMNS, rows }] },
    { json, machine },
  );
});

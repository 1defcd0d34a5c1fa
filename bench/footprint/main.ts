/**
 * What a migration costs the processes at its ends besides the RAM: how long their event loops are blocked, and how much private memory
 * they take. A 2 GiB synthetic VM between two processes over loopback, with pin-all and without.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromQemu } from 'rdma-migrate';
import { syntheticStream } from '../../examples/synthetic/vm.ts';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { costOf, Peak } from '../support/cost.ts';
import { ownPath, removePath } from '../support/leftovers.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';

interface Delay {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const END = new URL('end.js', import.meta.url);

interface Finished {
  readonly delay: Delay;
  readonly before: number;
  readonly peak: number;
}

/** It has loaded what it needs: what it holds now is not the migration's. */
async function begin(end: Child): Promise<() => Promise<Finished>> {
  await end.hear();
  const before = await costOf(end.pid);
  const peak = new Peak(end.pid);
  end.say({ go: true });
  return async () => {
    const delay = await end.hear<Delay>();
    return { delay, before: before.privateMiB, peak: (await peak.stop()).privateMiB };
  };
}

async function measure(folder: string, from: string, pinAll: boolean): Promise<Cell[][]> {
  const to = join(folder, `to-${pinAll}`);
  await using receiver = new Child(END, ['receive', to]);
  const received = await begin(receiver);
  const { uri } = await receiver.hear<{ uri: string }>();
  await using sender = new Child(END, ['send', from, uri, ...(pinAll ? ['pin-all'] : [])]);
  const sent = await begin(sender);
  const [source, destination] = await Promise.all([sent(), received()]);
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
  const title = `A VM of ${mib} MiB from an image into an image: the time between two firings of a timer of 1 ms, and private memory`;
  await tell(
    'footprint',
    { tables: [{ id: 'footprint', title, columns: COLUMNS, rows }] },
    { json, machine },
  );
});

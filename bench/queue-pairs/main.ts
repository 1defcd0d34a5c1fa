/**
 * Thousands of queue pairs of the software RNIC between two processes: all are made, each carries a WRITE and a SEND both ways, all are
 * closed. What each stage takes, and what each process holds while all are open.
 */
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { costOf } from '../support/cost.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';

const END = new URL('end.js', import.meta.url);
const STAGES = 4;
const HELD = ['threads', 'descriptors', 'MiB'] as const;
const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'time', unit: 's' },
  ...['client', 'server'].flatMap((end) => HELD.map((what) => ({ head: `${end}: ${what}`, digits: 0 }))),
];

interface Carried {
  readonly count: number;
  readonly whole: boolean;
}

const command = benchCommand('bench:queue-pairs', 'Thousands of queue pairs between two processes.')
  .option('--count <n>', 'queue pairs', wholeNumber(1, 60_000), 4096)
  .option('--json <file>', 'write what was measured to a file');

await runBench<{ count: number; json?: string }>(command, async ({ count, json }) => {
  const machine = machineNow();
  const status = new Status(STAGES);
  const rows: Cell[][] = [];
  await using server = new Child(END, ['server']);
  server.say({ count });
  const { port } = await server.hear<{ port: number }>();
  await using client = new Child(END, ['client', String(port), String(count)]);
  await client.hear(); // it has loaded what it needs, which is no cost of its queue pairs
  let began = performance.now();
  const report = async (stage: string): Promise<void> => {
    const seconds = rows.length === 0 ? null : (performance.now() - began) / 1000;
    const held = await Promise.all([client, server].map(({ pid }) => costOf(pid)));
    const figures = held.flatMap(({ threads, descriptors, privateMiB }) => [
      threads,
      descriptors,
      privateMiB,
    ]);
    rows.push([stage, seconds, ...figures]);
    status.step(stage);
    began = performance.now();
  };

  await report('before');
  client.say({ go: true });
  await client.hear();
  await report(`${count} connected`);
  client.say({ go: true });
  const sent = await client.hear<Carried>();
  server.say({ go: true });
  const received = await server.hear<Carried>();
  await report('a WRITE and a SEND each way');
  for (const [end, { count: carried, whole }] of Object.entries({ client: sent, server: received }))
    if (carried !== count || !whole)
      throw new Error(`${end}: ${carried} of ${count} queue pairs, or bytes differ`);
  client.say({ go: true });
  await Promise.all([client.hear(), server.hear()]);
  await report('all closed');
  client.say({ go: true });
  server.say({ go: true });
  status.end();
  const title = `${count} queue pairs between two processes; memory of their own`;
  await tell(
    'queue-pairs',
    { tables: [{ id: 'queue-pairs', title, columns: COLUMNS, rows }] },
    { json, machine },
  );
});

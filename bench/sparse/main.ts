/** What sparse RAM costs: a VM with some of it in use compared with one of that size. Total time, and the destination's most resident memory. */
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Owned } from '../support/owned.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import { tablesOf } from '../throughput/figures.ts';
import { measure } from '../throughput/measure.ts';
import { sparseRows, sparseTitle } from './rows.ts';

const command = benchCommand('bench:sparse', 'A sparse VM compared with a small one that is full.')
  .option(
    '--rounds <n>',
    'how often each is measured, after one round that warms up; 0: that one alone',
    wholeNumber(0, 1000),
    7,
  )
  .option('--gib <n>', 'size of the sparse VM', wholeNumber(1, 1024), 16)
  .option('--mib <n>', 'RAM in use', wholeNumber(16, 2 ** 20), 256)
  .option('--json <file>', 'write what was measured to a file');

await runBench<{ rounds: number; gib: number; mib: number; json?: string }>(
  command,
  async ({ rounds, json, ...sizes }) => {
    const machine = machineNow();
    await using open = new Owned();
    const rows = await sparseRows(sizes, open);
    const group = { name: 'sparse', title: sparseTitle(sizes), baseline: 'sparse/small', rows, notes: [] };
    const status = new Status(rows.length * (rounds + 1));
    const measured = await measure(group, rounds, status).finally(() => status.end());
    await tell('sparse', { tables: tablesOf(measured), samples: [measured] }, { json, machine });
  },
);

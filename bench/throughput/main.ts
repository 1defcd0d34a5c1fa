/**
 * How fast VMs move, compared with what the machine can do at all and with what others do there: both ends are processes on this machine,
 * and all rows of a group take turns in one run. `npm run bench -- --help` has the options, bench/README.md the groups.
 */
import { runBench } from '../support/arguments.ts';
import { machineNow, tell } from '../support/report.ts';
import { Status } from '../support/status.ts';
import { type Options, throughputCommand } from './command.ts';
import { tablesOf } from './figures.ts';
import { groupsOf } from './groups.ts';
import { measure } from './measure.ts';
import { GROUPS } from './plan.ts';
import type { Group, MeasuredGroup } from './sample.ts';
import { targetsOf, targetTable } from './targets.ts';

async function run({ rounds, targets, json, ...asked }: Options): Promise<void> {
  const machine = machineNow();
  const plan = targets ? { ...asked, only: GROUPS } : asked;
  const groups: MeasuredGroup[] = [];
  for (const open of groupsOf(plan)) groups.push(await inTurn(await open(), rounds));
  const tables = groups.flatMap(tablesOf);
  const all = targets ? [...tables, targetTable(targetsOf(groups))] : tables;
  await tell('throughput', { tables: all, samples: groups }, { json, machine });
}

async function inTurn(group: Group, rounds: number): Promise<MeasuredGroup> {
  await using opened = group;
  const status = new Status(opened.rows.length * (rounds + 1));
  try {
    return await measure(opened, rounds, status);
  } finally {
    status.end();
  }
}

await runBench(throughputCommand(), run);

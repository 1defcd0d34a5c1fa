/**
 * One target in a process of its own, which may crash, hang or run out of memory: argument 1 is the target, 2 the {@link ChildPlan} as JSON.
 * Before each case its number goes to the file of descriptor 4, so that whoever started this knows it however this ends.
 */
import { writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { runTarget } from './runner.ts';
import { TARGETS } from './targets/index.ts';

export interface ChildPlan {
  readonly seed: number;
  readonly first: number;
  /** Absent: no limit. */
  readonly most?: number;
  readonly seconds?: number;
}

const CASE_FILE = 4;

const [name, json = '{}'] = process.argv.slice(2);
const target = TARGETS.find((each) => each.name === name);
if (target === undefined) throw new Error(`no target ${name}`);

const plan = JSON.parse(json) as ChildPlan;
const { seed, first, most = Number.MAX_SAFE_INTEGER, seconds = Number.POSITIVE_INFINITY } = plan;
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());

const number = Buffer.alloc(8);
const until = performance.now() + 1000 * seconds;
const report = await runTarget(target, { seed, first, most, until, signal: stop.signal }, (index) => {
  number.writeDoubleBE(index);
  writeSync(CASE_FILE, number, 0, 8, 0);
});
process.send?.(report, () => process.disconnect());

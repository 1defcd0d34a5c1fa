/**
 * What a pin budget costs: RAM without a zero page moves with pin-all, without, and with budgets, in turn. Total time as a ratio to pin-all of the
 * same round, the most that was registered, and what the kernel counted as pinned (VmPin) in both processes, sampled.
 *
 *   npm run bench:pinning -- [--rounds N] [--mib N] [--provider iwarp|verbs] [--host ADDRESS] [--budget MIB ...] [--only-budgets] [--json]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { sourceVm } from '../throughput/memory-vm.ts';
import type { Order } from './end.ts';

const END = fileURLToPath(new URL('end.js', import.meta.url));
/** Both ends have 8 buffers of 512 KiB for control messages. */
const CONTROL_MIB = 4;
const SAMPLE_MS = 2;

interface Taken {
  readonly seconds: number;
  readonly registeredMiB: number;
  readonly pinnedMiB: number;
  readonly budgetMiB: number | undefined;
}

function pinnedMiB(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid ?? 'self'}/status`, 'latin1');
  return Number(/^VmPin:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}

async function move(
  vm: SourceVm,
  end: ChildProcess,
  order: Order,
  options: { pinAll?: boolean; pinBudget?: bigint },
): Promise<Taken> {
  end.send(order);
  const [{ uri, failure }] = (await once(end, 'message')) as [{ uri: string; failure?: string }];
  if (failure !== undefined) throw new Error(failure);
  const done = once(end, 'message');
  let pinned = 0;
  const timer = setInterval(() => {
    pinned = Math.max(pinned, pinnedMiB(undefined), pinnedMiB(end.pid));
  }, SAMPLE_MS);
  const source = new MigrationSource(vm, uri, { ...options, provider: order.provider });
  source.on('notice', (notice) => console.error(`source: ${notice}`));
  const began = performance.now();
  try {
    const result = await source.migrate();
    const seconds = (performance.now() - began) / 1000;
    const [{ peak }] = (await done) as [{ peak: number }];
    const budget = result['pin-budget'];
    return {
      seconds,
      registeredMiB: Math.max(result['registered-peak'], peak) / 2 ** 20,
      pinnedMiB: pinned,
      budgetMiB: budget === undefined ? undefined : budget / 2 ** 20,
    };
  } finally {
    clearInterval(timer);
  }
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '7' },
      mib: { type: 'string', default: '1024' },
      provider: { type: 'string', default: 'iwarp' },
      host: { type: 'string', default: '127.0.0.1' },
      budget: { type: 'string', multiple: true },
      'only-budgets': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const order = { provider: values.provider as Order['provider'], host: values.host };
  const mib = BigInt(values.mib);
  await using vm = await sourceVm(mib << 20n);
  const end = fork(END);
  const budgets = values.budget?.map(BigInt) ?? [mib / 16n];
  const rows = [
    ...(values['only-budgets'] ? [] : [{ name: 'pin-all', options: { pinAll: true } }]),
    ...(values['only-budgets'] ? [] : [{ name: 'without a budget', options: {} }]),
    ...budgets.map((size) => ({ name: `budget of ${size} MiB`, options: { pinBudget: size << 20n } })),
  ].map((row) => ({ ...row, taken: [] as Taken[] }));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const { options, taken } of rows) {
      const measured = await move(vm, end, order, options);
      if (round > 0 || values.rounds === '0') taken.push(measured); // the first round warms up
    }
  }
  end.disconnect();
  const base = rows[0]?.taken ?? [];
  const results = rows.map(({ name, taken }) => ({
    name,
    seconds: median(taken.map(({ seconds }) => seconds)),
    ratio: median(taken.map(({ seconds }, i) => seconds / (base[i]?.seconds ?? Number.NaN))),
    registeredMiB: Math.max(...taken.map(({ registeredMiB }) => registeredMiB)),
    pinnedMiB: Math.max(...taken.map((one) => one.pinnedMiB)),
    budgetMiB: taken[0]?.budgetMiB,
  }));
  if (values.json) console.log(JSON.stringify(results));
  else for (const result of results) console.log(line(result));
  // The kernel's count includes the pages of both ends' buffers.
  return results.some(({ pinnedMiB: pinned, budgetMiB }) => pinned > (budgetMiB ?? Infinity) + CONTROL_MIB)
    ? 1
    : 0;
}

function line(row: Taken & { name: string; ratio: number }): string {
  const { name, seconds, ratio, registeredMiB, pinnedMiB: pinned } = row;
  const memory = `registered at most ${registeredMiB.toFixed(0)} MiB, pinned ${pinned.toFixed(1)} MiB`;
  return `${name.padEnd(22)} ${seconds.toFixed(2)} s  x${ratio.toFixed(2)}  ${memory}`;
}

process.exitCode = await main();

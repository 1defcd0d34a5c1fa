/**
 * What a pin budget costs: RAM without a zero page moves with pin-all, without, and with budgets, in turn. Total time as a ratio to pin-all of the
 * same round, the most that was registered, and what the kernel counted as pinned (VmPin) in both processes, sampled.
 */
import { readFileSync } from 'node:fs';
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { benchCommand, oneOf, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { machineNow, tell } from '../support/report.ts';
import { median } from '../support/statistics.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';
import { sourceVm } from '../throughput/memory-vm.ts';
import type { Order } from './end.ts';

const END = new URL('end.js', import.meta.url);
/** Both ends have 8 buffers of 512 KiB for control messages. */
const CONTROL_MIB = 4;
const SAMPLE_MS = 2;
/** The least that the package takes. */
const LEAST_BUDGET = 2;

interface Taken {
  readonly seconds: number;
  readonly registeredMiB: number;
  readonly pinnedMiB: number;
  readonly budgetMiB: number | undefined;
}

/** 0 for a process that has ended; {@link Child} says that it has. */
function pinnedMiB(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    return Number(/^VmPin:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

async function move(
  vm: SourceVm,
  end: Child,
  order: Order,
  options: { pinAll?: boolean; pinBudget?: bigint },
): Promise<Taken> {
  end.say(order);
  const { uri } = await end.hear<{ uri: string }>();
  let pinned = 0;
  const timer = setInterval(() => {
    pinned = Math.max(pinned, pinnedMiB(process.pid), pinnedMiB(end.pid));
  }, SAMPLE_MS);
  const source = new MigrationSource(vm, uri, { ...options, provider: order.provider });
  source.on('notice', (notice) => console.error(`source: ${notice}`));
  const began = performance.now();
  try {
    const result = await source.migrate();
    const seconds = (performance.now() - began) / 1000;
    const { peak } = await end.hear<{ peak: number }>();
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

interface Options {
  readonly rounds: number;
  readonly mib: number;
  readonly provider: Order['provider'];
  readonly host: string;
  readonly budget?: readonly number[];
  readonly onlyBudgets?: boolean;
  readonly json?: string;
}

const command = benchCommand(
  'bench:pinning',
  'What a pin budget costs compared with pin-all, and what is registered and pinned meanwhile.',
)
  .option(
    '--rounds <n>',
    'how often each is measured, after one round that warms up; 0: that one alone',
    wholeNumber(0, 1000),
    7,
  )
  .option('--mib <n>', 'RAM to move', wholeNumber(1, 2 ** 20), 1024)
  .option('--provider <name>', 'iwarp or verbs', oneOf(['iwarp', 'verbs']), 'iwarp')
  .option('--host <address>', 'of this machine, that both ends take', '127.0.0.1')
  .option(
    '--budget <mib>',
    'a budget to measure (repeatable; default: a sixteenth of the RAM)',
    (text, all: number[] = []) => [...all, wholeNumber(LEAST_BUDGET, 2 ** 20)(text)],
  )
  .option('--only-budgets', 'neither pin-all nor without a budget')
  .option('--json <file>', 'write what was measured to a file');

const COLUMNS: readonly Column[] = [
  { head: '' },
  { head: 'whole migration', unit: 's' },
  { head: 'to the first row', unit: 'ratio' },
  { head: 'registered at most', unit: 'MiB', digits: 0 },
  { head: 'pinned at most', unit: 'MiB', digits: 1 },
];

interface Measured {
  readonly name: string;
  readonly options: { pinAll?: boolean; pinBudget?: bigint };
  readonly taken: Taken[];
}

const seconds = ({ taken }: Measured): number => median(taken.map((one) => one.seconds));
const most = ({ taken }: Measured, figure: 'registeredMiB' | 'pinnedMiB'): number =>
  Math.max(...taken.map((one) => one[figure]));

function cells(row: Measured, first: Measured): Cell[] {
  const ratio = seconds(row) / seconds(first);
  return [row.name, seconds(row), ratio, most(row, 'registeredMiB'), most(row, 'pinnedMiB')];
}

/** The kernel's count includes the pages of both ends' buffers; the software RNIC pins nothing. @throws Error more than a budget */
function requireBudgets(rows: readonly Measured[]): void {
  for (const row of rows) {
    const [asked, kept] = [row.options.pinBudget, row.taken[0]?.budgetMiB];
    const budget = asked === undefined ? (kept ?? Number.POSITIVE_INFINITY) : Number(asked >> 20n);
    const [registered, pinned] = [most(row, 'registeredMiB'), most(row, 'pinnedMiB')];
    if (registered > budget || pinned > budget + CONTROL_MIB)
      throw new Error(`${row.name}: ${registered} MiB registered, ${pinned} pinned, ${budget} are allowed`);
  }
}

await runBench<Options>(command, async ({ rounds, mib, provider, host, budget, onlyBudgets, json }) => {
  const machine = machineNow();
  await using vm = await sourceVm(BigInt(mib) << 20n);
  await using end = new Child(END);
  const rows: Measured[] = [
    ...(onlyBudgets
      ? []
      : [
          { name: 'pin-all', options: { pinAll: true } },
          { name: 'without a budget', options: {} },
        ]),
    ...(budget ?? [Math.max(LEAST_BUDGET, Math.floor(mib / 16))]).map((size) => ({
      name: `budget of ${size} MiB`,
      options: { pinBudget: BigInt(size) << 20n },
    })),
  ].map((row) => ({ ...row, taken: [] }));
  const status = new Status(rows.length * (rounds + 1));
  for (let round = 0; round <= rounds; round++) {
    for (const { name, options, taken } of rows) {
      status.step(`round ${round} of ${rounds}: ${name}`);
      const measured = await move(vm, end, { provider, host }, options);
      if (round > 0 || rounds === 0) taken.push(measured);
    }
  }
  status.end();
  const table = { id: 'pinning', title: `Pin budgets, ${mib} MiB, ${provider}`, columns: COLUMNS };
  const tables = [{ ...table, rows: rows.map((row) => cells(row, rows[0] as Measured)) }];
  await tell('pinning', { tables }, { json, machine });
  requireBudgets(rows);
});

/**
 * Programs that move with their connections: how long these stand still, by queue pairs, by what the program does, and by what their peers do
 * ahead of time, beside a program that makes its connections anew; how long the drain takes; what it costs that queue pairs can move.
 */
import { writeFile } from 'node:fs/promises';
import { benchCommand, listOf, runBench, wholeNumber } from '../support/arguments.ts';
import { machineNow, tell } from '../support/report.ts';
import { median } from '../support/statistics.ts';
import { Status } from '../support/status.ts';
import type { Cell, Table } from '../support/table.ts';
import { MODES, type Mode, moves, rate } from './measure.ts';
import { type Blackout, drawBlackouts } from './pictures.ts';

const WAYS = ['ahead', 'in-pause', 'scratch'] as const;
const HEADS = ['in advance', 'in the pause', 'from scratch'] as const;
/** MigrRDMA (SIGCOMM 2025), figure 3, seconds; without and with pre-setup. Of other hardware: shape and ratio can be compared, and no more. */
const MIGR_RDMA: Readonly<Record<number, readonly [number, number]>> = {
  1: [0.18, 0.08],
  64: [0.35, 0.16],
  4096: [8.4, 5.5],
};
const SIZE = 1024;
const DEPTH = 2;

interface Options {
  readonly queuePairs: number[];
  readonly drainSizes: number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly json?: string;
  readonly svg?: string;
}

/** Many queue pairs take their time, and differ less from move to move. */
const MANY = 64;
const roundsFor = (count: number, rounds: number): number => (count > MANY ? Math.ceil(rounds / 3) : rounds);

async function blackouts({ queuePairs, rounds }: Options, status: Status): Promise<Blackout[]> {
  const all: Blackout[] = [];
  for (const count of queuePairs)
    for (const mode of Object.keys(MODES) as Mode[])
      for (const way of WAYS) {
        status.step(`${count} queue pairs, ${mode}, ${way}`);
        const traffic = { ...MODES[mode], size: SIZE, depth: DEPTH, queuePairs: count };
        const moved = await moves(traffic, way, roundsFor(count, rounds));
        all.push({
          queuePairs: count,
          mode,
          way,
          ms: moved.map(({ programMs, peersMs }) => programMs + peersMs),
          drainMs: moved.map(({ drainMs }) => drainMs),
        });
      }
  return all;
}

function blackoutTable(all: readonly Blackout[], { queuePairs, rounds }: Options): Table {
  const rows: Cell[][] = [];
  for (const count of queuePairs)
    for (const mode of Object.keys(MODES) as Mode[]) {
      const figures = WAYS.map((way) => {
        const found = all.find((each) => each.queuePairs === count && each.mode === mode && each.way === way);
        return median(found?.ms ?? []);
      }) as [number, number, number];
      const [without, ahead] = MIGR_RDMA[count] ?? [null, null];
      rows.push([
        String(count),
        mode,
        ...figures,
        figures[1] / figures[0],
        figures[2] / figures[0],
        without === null || ahead === null ? null : without / ahead,
      ]);
    }
  const title =
    `How long connections stand still, from the program's last step to the last peer's return, with the last pass over ` +
    `its memory; medians of ${rounds} moves, of a third as many above ${MANY} queue pairs. Peers connect in advance or in the pause, or all is made from scratch`;
  const ms = HEADS.map((head) => ({ head, unit: 'ms', digits: 1 }));
  return {
    id: 'blackout',
    title,
    columns: [
      { head: 'queue pairs' },
      { head: 'the program' },
      ...ms,
      { head: 'in the pause / in advance' },
      { head: 'from scratch / in advance' },
      { head: 'MigrRDMA: without / with pre-setup' },
    ],
    rows,
  };
}

async function drains(all: readonly Blackout[], options: Options, status: Status): Promise<Table> {
  const rows: Cell[][] = options.queuePairs.map((count) => {
    const found = all.filter((each) => each.queuePairs === count && each.way === 'ahead');
    return [`${count} queue pairs`, `${SIZE} bytes`, median(found.flatMap(({ drainMs }) => drainMs))];
  });
  for (const size of options.drainSizes) {
    status.step(`drain of ${size} bytes`);
    const moved = await moves({ ...MODES.send, size, depth: DEPTH, queuePairs: 1 }, 'ahead', options.rounds);
    rows.push(['1 queue pair', `${size} bytes`, median(moved.map(({ drainMs }) => drainMs))]);
  }
  const title =
    'From the stop of the program until both directions had come to rest and the image was made, medians';
  return {
    id: 'drain',
    title,
    columns: [{ head: '' }, { head: 'message' }, { head: 'drain and freeze', unit: 'ms' }],
    rows,
  };
}

async function costs({ rounds, seconds }: Options, status: Status): Promise<Table> {
  const rows: Cell[][] = [];
  for (const [name, verb, size, depth] of [
    ['SEND', 'send', 4096, 128],
    ['WRITE', 'write', 4096, 128],
    ['WRITE', 'write', 1 << 20, 16],
    ['READ', 'read', 4096, 16],
  ] as const) {
    const figures: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds; round += 1)
      for (const which of [0, 1] as const) {
        status.step(`${name} of ${size} bytes, ${which === 1 ? 'resumable' : 'as ever'}`);
        const traffic = { verb, from: 'program', size, depth, queuePairs: 1 } as const;
        figures[which].push(await rate(traffic, which === 1, seconds));
      }
    const [plain, resumable] = figures.map(median) as [number, number];
    rows.push([`${name} of ${size} bytes`, String(depth), plain, resumable, (1 - resumable / plain) * 100]);
  }
  const title = 'What it costs that a queue pair can move: operations a second of one queue pair, medians';
  return {
    id: 'cost',
    title,
    columns: [
      { head: '' },
      { head: 'under way' },
      { head: 'without', unit: '1/s', digits: 0 },
      { head: 'with', unit: '1/s', digits: 0 },
      { head: 'less', unit: '%', digits: 1 },
    ],
    rows,
  };
}

const most = 8192;
const command = benchCommand('bench:mobility', 'Programs that move with their connections.')
  .option(
    '--queue-pairs <list>',
    'numbers of queue pairs',
    listOf(wholeNumber(1, most)),
    [1, 8, 64, 512, 4096],
  )
  .option(
    '--drain-sizes <list>',
    'bytes of messages whose drain is measured, on one queue pair',
    listOf(wholeNumber(64, 1 << 24)),
    [512, 8192, 131_072, 2_097_152, 16_777_216],
  )
  .option('--rounds <n>', 'moves of each kind, one after the other', wholeNumber(1, 100), 7)
  .option('--seconds <n>', 'of each measurement of cost', wholeNumber(1, 60), 1)
  .option('--svg <file>', 'draw the blackouts')
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async (options) => {
  const machine = machineNow();
  const { queuePairs, drainSizes, rounds } = options;
  const steps = queuePairs.length * Object.keys(MODES).length * WAYS.length + drainSizes.length + 8 * rounds;
  const status = new Status(steps);
  const all = await blackouts(options, status);
  const tables = [
    blackoutTable(all, options),
    await drains(all, options, status),
    await costs(options, status),
  ];
  status.end();
  if (options.svg !== undefined) await writeFile(options.svg, drawBlackouts(all));
  await tell('mobility', { tables, samples: all }, { json: options.json, machine });
});

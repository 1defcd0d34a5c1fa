/** What can be seen of the guest from outside: its count in RAM and the lines on its serial port. */
import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_SIZE } from '../guest/layout.ts';
import { type GuestState, readGuestState, verifyGuestRam } from '../guest/verify.ts';
import { parsePasses, type Qemu } from '../qemu/qemu.ts';
import type { DemoContext } from './context.ts';
import { rate } from './narrator.ts';

/** Enough to see whether the count has gaps. */
const LINES = 3;
/** The first pass touches every page for the first time. */
const COUNT_TIMEOUT_MS = 300_000;
const WATCH_MS = 500;

/** Where the guest of a VM is, running or not. */
export async function readState(vm: Qemu): Promise<GuestState> {
  const file = await open(vm.ramFile, 'r');
  try {
    return await readGuestState(file);
  } finally {
    await file.close();
  }
}

/** Waits until the guest has printed some lines, and reports how fast it changes its memory. */
export async function letCount({ narrator, signal }: DemoContext, vm: Qemu): Promise<void> {
  narrator.step(
    'Let the guest run: it keeps rewriting all of its memory and counts its passes on the serial port',
  );
  await waitForLines(vm, LINES);
  const { steps } = await readState(vm);
  const from = performance.now();
  await delay(WATCH_MS, undefined, { signal });
  const now = await readState(vm);
  const speed = rate(Number(now.steps - steps) * PAGE_SIZE, performance.now() - from);
  narrator.say(`it dirties pages at ${speed}; the serial port says ${await lastLine(vm)}`);
}

/**
 * Runs the destination's guest for a while and checks it against where it was paused: its count in RAM never falls, the lines on
 * the serial port follow the source's without a gap, a repeat or a torn line, and every page is right when it is paused again.
 */
export async function goesOn(
  context: DemoContext,
  source: Qemu,
  destination: Qemu,
  paused: GuestState,
): Promise<GuestState> {
  const { narrator } = context;
  narrator.step('Let the guest go on in the second QEMU');
  const samples = await watchSteps(destination, paused.steps);
  await destination.execute('stop');
  narrator.say(`${samples} looks at its count while it ran: it never fell below step ${paused.steps}`);
  await requireOneCount(context, source, destination);
  const end = await verifyGuestRam(destination.ramFile);
  if (end.steps <= paused.steps) throw new Error(`the guest stands still at step ${paused.steps}`);
  narrator.say(`paused again in pass ${end.pass} at page ${end.cursor}: all ${end.pages} pages are right`);
  return end;
}

/** Lets the guest run until it has printed some lines; returns how often its count was read. */
async function watchSteps(vm: Qemu, from: bigint): Promise<number> {
  let last = from;
  let samples = 0;
  await vm.execute('cont');
  const until = performance.now() + WATCH_MS;
  await vm.waitUntil(
    'the guest to count on',
    async () => {
      const { steps } = await readState(vm);
      if (steps < last) throw new Error(`the guest's count fell from step ${last} to ${steps}`);
      last = steps;
      samples += 1;
      return (performance.now() > until && (await lines(vm)) >= LINES) || undefined;
    },
    COUNT_TIMEOUT_MS,
  );
  return samples;
}

/** The guest prints every n-th pass: the serial ports of both, one after the other, are one count with equal gaps. */
async function requireOneCount({ narrator }: DemoContext, source: Qemu, destination: Qemu): Promise<void> {
  const before = await source.serialText();
  const passes = parsePasses(before + (await destination.serialText()));
  const gaps = new Set(passes.slice(1).map((pass, index) => pass - (passes[index] ?? 0n)));
  if (gaps.size !== 1)
    throw new Error(`the passes on the serial ports are no count: gaps of ${[...gaps].join(', ')}`);
  const there = parsePasses(before).length;
  narrator.say(
    `the serial port of the first ended with pass ${passes[there - 1]}, the second went on with pass ` +
      `${passes[there]} up to ${passes.at(-1)}: one count, no line lost or twice`,
  );
}

const waitForLines = (vm: Qemu, count: number): Promise<true> =>
  vm.waitUntil('the guest to count', async () => (await lines(vm)) >= count || undefined, COUNT_TIMEOUT_MS);

/** Line ends on the serial port. */
async function lines(vm: Qemu): Promise<number> {
  return (await vm.serialText()).split('\n').length - 1;
}

async function lastLine(vm: Qemu): Promise<string> {
  return JSON.stringify((await vm.serialText()).trimEnd().split('\n').at(-1));
}

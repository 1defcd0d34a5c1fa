/** What is shown of work that goes on, as lines of text: a bar, and below it, of a running guest, its rounds and its downtime. */
import { formatBytes, formatDuration, formatRate } from './format.ts';
import type { BarState, LiveBar } from './reporter.ts';

/** The longest that each part gets, with the spaces before it: what is shown does not change with the numbers. */
const PHASE = 'device-state'.length;
const PERCENTAGE = ' 100%'.length;
const LEFT = '  59 min 59 s left'.length;
const DONE = '  1023.9 MiB / 1023.9 MiB'.length;
const RATE = '  1023.9 MiB/s'.length;
/** Brackets and the space before them. */
const BAR_FRAME = 3;
const BAR_LEAST = 8;
const BAR_MOST = 24;
const UNKNOWN_COLUMNS = 80;
const APART = '   ';

/**
 * Each line is shorter than `columns`, those of the terminal (0 or undefined where it does not tell): a character in the last column makes some
 * terminals begin a new line. What does not fit is left out, and of a running guest goes to the next line.
 */
export function progressLines(state: BarState, columns?: number): readonly string[] {
  const room = Math.max(1, (columns || UNKNOWN_COLUMNS) - 1);
  const groups = state.live ? [roundParts(state.live), guestParts(state.live)] : [];
  const lines = [barLine(state, room), ...groups.flatMap((parts) => packed(parts, room))];
  return lines.map((line) => line.slice(0, room).trimEnd());
}

/** All of it in one line. */
export const progressLine = (state: BarState): string =>
  [
    `${state.phase} ${percentage(state)}%`,
    ...(state.live
      ? [...roundParts(state.live), ...guestParts(state.live)]
      : [doneOf(state), formatRate(state.bytesPerSecond)]),
    ...(state.secondsLeft === undefined ? [] : [leftOf(state)]),
  ].join(', ');

/** Of what does not fit the bar goes first, because the percentage says the same; the time left stays longest. */
function barLine(state: BarState, columns: number): string {
  let room = columns - PHASE - PERCENTAGE;
  const fits = (text: string, length: number): string => {
    if (length > room) return '';
    room -= length;
    return `  ${text}`;
  };
  const left = fits(leftOf(state), LEFT);
  const done = state.live ? '' : fits(doneOf(state), DONE);
  const rate = state.live ? '' : fits(formatRate(state.bytesPerSecond), RATE);
  const size = Math.min(BAR_MOST, room - BAR_FRAME);
  const bar = size < BAR_LEAST ? '' : ` [${filled(state, size)}]`;
  return `${state.phase.padEnd(PHASE)}${bar} ${percentage(state)}%${done}${rate}${left}`;
}

/** 0 to 1. */
const share = ({ done, total }: BarState): number => Math.min(1, Math.max(0, total > 0 ? done / total : 0));

const percentage = (state: BarState): number => Math.floor(share(state) * 100);

const filled = (state: BarState, size: number): string =>
  '='.repeat(Math.floor(share(state) * size)).padEnd(size, '-');

const doneOf = ({ done, total }: BarState): string => `${formatBytes(done)} / ${formatBytes(total)}`;

const leftOf = ({ secondsLeft }: BarState): string =>
  secondsLeft === undefined ? '' : `${formatDuration(secondsLeft * 1000)} left`;

function roundParts(live: LiveBar): readonly string[] {
  const written = live.downtimeMs === undefined ? live.dirtyBytesPerSecond : undefined;
  return [
    `round ${live.round}: ${formatBytes(live.remaining)} to send`,
    `sent ${formatRate(live.sentBytesPerSecond)}`,
    ...(written === undefined ? [] : [`written ${formatRate(written)}`]),
  ];
}

function guestParts(live: LiveBar): readonly string[] {
  return [
    ...downtimeParts(live),
    ...(live.throttlePercentage > 0 ? [`slowed down by ${live.throttlePercentage}%`] : []),
    ...(live.downtimeMs === undefined ? (WHY[live.verdict ?? 'converging'] ?? []) : []),
  ];
}

function downtimeParts({ downtimeMs, expectedMs, allowedMs }: LiveBar): readonly string[] {
  const allowed = allowedMs === undefined ? [] : [`${formatDuration(allowedMs)} allowed`];
  if (downtimeMs !== undefined) return [`guest paused for ${formatDuration(downtimeMs)}`, ...allowed];
  return expectedMs === undefined ? [] : [`downtime ${formatDuration(expectedMs)} expected`, ...allowed];
}

/** Why the guest is not stopped yet, where another round alone does not help. */
const WHY: Readonly<Record<NonNullable<LiveBar['verdict']>, readonly string[]>> = {
  converged: [],
  converging: [],
  'dirty-rate': ['it writes as fast as is sent'],
  'fixed-costs': ['that limit cannot be met'],
};

/** Parts one after another, on as few lines as they fit on. */
function packed(parts: readonly string[], room: number): readonly string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last === undefined || last.length + APART.length + part.length > room) lines.push(part);
    else lines[lines.length - 1] = last + APART + part;
  }
  return lines;
}

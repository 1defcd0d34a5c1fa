/** The options of `rdma-migrate bench` as they stand on the command line. Everything is refused that cannot be measured. */
import { InvalidArgumentError } from 'commander';
import { CHANNELS, DEPTH, MESSAGE, QUEUE_PAIRS, RAM, RAM_GRANULE } from '../bench/limits.ts';
import { MEASURES, type Measure } from '../bench/plan.ts';
import { parseSeconds, parseSize } from './arguments.ts';

/** More of one option make a run that nobody waits for. */
const MOST_VALUES = 32;
const MOST_ROUNDS = 1000;
const MOST_ROUND_SECONDS = 600;

interface Bounds {
  readonly least: number;
  readonly most: number;
}

export function parseMeasures(text: string): Measure[] {
  const known = MEASURES.join(', ');
  return listOf(text, (part) => {
    const name = part.toLowerCase() as Measure;
    if (MEASURES.includes(name)) return name;
    throw new InvalidArgumentError(`${part} is none of ${known}.`);
  });
}

/** `4K,64K`, or `4K-4M`: each twice the one before. */
export function parseSizes(text: string): number[] {
  const [from, to, more] = text.split('-');
  if (to === undefined || from === undefined) return listOf(text, (part) => size(part, MESSAGE));
  const [least, most] = [size(from, MESSAGE), size(to, MESSAGE)];
  if (more !== undefined || least > most)
    throw new InvalidArgumentError('Expected sizes such as 4K,64K,1M, or a range such as 4K-4M.');
  const sizes: number[] = [];
  for (let bytes = least; bytes <= most; bytes *= 2) sizes.push(bytes);
  return sizes;
}

export function parseRam(text: string): number[] {
  return listOf(text, (part) => {
    const bytes = size(part, RAM);
    if (bytes % RAM_GRANULE === 0) return bytes;
    throw new InvalidArgumentError(`${part} is no whole number of MiB.`);
  });
}

export const parseMaxRam = (text: string): number => size(text, RAM);

/** Bytes per second. */
export const parseDirtyRates = (text: string): number[] =>
  listOf(text, (part) => size(part, { least: 0, most: 2 ** 40 }));
export const parseDepths = (text: string): number[] => listOf(text, (part) => whole(part, DEPTH));
export const parseQueuePairs = (text: string): number[] => listOf(text, (part) => whole(part, QUEUE_PAIRS));
export const parseChannels = (text: string): number[] =>
  listOf(text, (part) => whole(part, { ...CHANNELS, least: 1 }));
export const parsePercents = (text: string): number[] =>
  listOf(text, (part) => whole(part.replace(/%$/, ''), { least: 0, most: 100 }));
export const parseRounds = (text: string): number => whole(text, { least: 1, most: MOST_ROUNDS });
export const parsePort = (text: string): number => whole(text, { least: 0, most: 65_535 });

export function parseRoundSeconds(text: string): number {
  const seconds = parseSeconds(text) / 1000;
  if (seconds <= MOST_ROUND_SECONDS) return seconds;
  throw new InvalidArgumentError(`A round takes ${MOST_ROUND_SECONDS} seconds at most.`);
}

export function parseRoundBytes(text: string): number {
  return size(text, { least: 1, most: 2 ** 50 });
}

/** `off`, `on`, or `off,on`: both. */
export function parseSwitches(text: string): boolean[] {
  return listOf(text, (part) => {
    if (part === 'on' || part === 'off') return part === 'on';
    throw new InvalidArgumentError(`Expected on, off, or off,on for both, but received ${part}.`);
  });
}

/** Repeatable. */
export function collectPlot(text: string, previous: readonly string[] = []): string[] {
  if (/\.(svg|png)$/i.test(text)) return [...previous, text];
  throw new InvalidArgumentError('Expected a file whose name ends with .svg or .png.');
}

/** Without repetitions, in the given order. */
function listOf<T>(text: string, read: (part: string) => T): T[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > MOST_VALUES) throw new InvalidArgumentError(`At most ${MOST_VALUES} values.`);
  if (parts.includes('')) throw new InvalidArgumentError('Expected values with a comma between them.');
  return [...new Set(parts.map(read))];
}

function size(text: string, bounds: Bounds): number {
  return bounded(Number(parseSize(text)), text, bounds);
}

function whole(text: string, bounds: Bounds): number {
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidArgumentError(`Expected a whole number but received ${text || 'nothing'}.`);
  return bounded(Number(text), text, bounds);
}

function bounded(value: number, text: string, { least, most }: Bounds): number {
  if (value >= least && value <= most) return value;
  throw new InvalidArgumentError(`Expected ${least} to ${most} but received ${text}.`);
}

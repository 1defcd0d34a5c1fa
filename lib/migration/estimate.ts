/**
 * How much is left and how long that takes: one definition for both ends. docs/events.md has it in words.
 */
import { type MigrationState, type Moved, type Round, WINDOW_MS } from './reducer.ts';

/** Less is too short to tell a rate by. */
const LEAST_WINDOW_MS = 200;

/** RAM of the pass that has been dealt with, bytes: its content has been moved, or it is zero and was told or passed over. */
function doneIn({ before }: Round, moved: Moved): number {
  return moved.implied - before.implied + moved.zero - before.zero;
}

/** Bytes that are still to be dealt with, as far as is known. */
export function remaining(state: MigrationState): number {
  const { round, moved, sync } = state;
  if (state.ramEnded !== undefined) return 0;
  if (round === undefined) return state.total;
  if (!round.open) return sync !== undefined && sync.at >= round.began ? sync.pending : 0;
  const pending = round.pending ?? foundIn(round, moved);
  return Math.max(0, pending - doneIn(round, moved));
}

/** 0 to 100, by tenths, rounded down. */
export function percentage(state: MigrationState): number {
  if (state.ramEnded !== undefined) return 100;
  if (state.total === 0) return 0;
  const done = Math.max(0, 1 - remaining(state) / state.total);
  return Math.min(99.9, Math.floor(done * 1000) / 10);
}

/** Bytes per second in the recent past: of content, and of RAM dealt with in all. */
export function rates(
  { samples }: MigrationState,
  at: number,
): { readonly content: number; readonly done: number; readonly ms: number } {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined) return { content: 0, done: 0, ms: 0 };
  const ms = Math.max(at, last.at) - first.at;
  if (ms <= 0) return { content: 0, done: 0, ms: 0 };
  return {
    content: ((last.content - first.content) * 1000) / ms,
    done: ((last.done - first.done) * 1000) / ms,
    ms: Math.min(ms, WINDOW_MS),
  };
}

/** Bytes per second since RAM began to move. */
export function meanRate({ ramBegan, ramEnded, moved }: MigrationState): number {
  const ms = ramBegan === undefined || ramEnded === undefined ? 0 : ramEnded - ramBegan;
  return ms > 0 ? (moved.implied * 1000) / ms : 0;
}

/** Milliseconds until RAM has been moved; undefined: it cannot be told. */
export function eta(state: MigrationState, at: number): number | undefined {
  if (state.status === 'completed') return 0;
  const { content, done, ms } = rates(state, at);
  const left = remaining(state);
  if (state.status !== 'active' || left === 0 || ms < LEAST_WINDOW_MS) return undefined;
  const contentLeft = contentOf(state, left);
  // Where nothing but zeros is left, only they tell how fast it goes.
  if (contentLeft === 0) return done > 0 ? (left * 1000) / done : undefined;
  const [dirty, waiting] = dirtied(state, at);
  const speed = content - dirty;
  return speed > 0 ? ((contentLeft + waiting) * 1000) / speed : undefined;
}

/** Of what is left, what has content: as far as RAM has been looked at that is known, the rest is taken to be like it. */
function contentOf({ round, moved }: MigrationState, left: number): number {
  if (!round?.open) return left;
  const { before } = round;
  const found = foundIn(round, moved);
  const foundZero = Math.max(0, moved.foundZero - before.zero);
  const known = Math.min(left, Math.max(0, found - (moved.implied - before.implied)));
  const zeros = Math.max(0, foundZero - (moved.zero - before.zero));
  const unseen = Math.max(0, left - known - zeros);
  const seen = found + foundZero;
  return known + (seen > 0 ? (unseen * found) / seen : unseen);
}

const foundIn = ({ before }: Round, moved: Moved): number => Math.max(0, moved.foundContent - before.implied);

/**
 * What a running guest writes, bytes per second, and what of it waits for the next round by now. Each round leaves another one to be sent, so
 * that it all takes as long as if the link were slower by what the guest writes.
 */
function dirtied({ sync, downtime }: MigrationState, at: number): readonly [number, number] {
  if (sync === undefined || downtime !== undefined) return [0, 0];
  const rate = sync['dirty-bytes-rate'];
  return [rate, (rate * Math.max(0, at - sync.at)) / 1000];
}

/** The one place where a migration's events become its story: a pure function, which alone knows what they add up to. */
import type { Phase } from '../errors.ts';
import type { BytesEvent, LinkEvent, MigrationEvent, RoundEvent, Timed, ZeroEvent } from './events.ts';
import { beginDowntime, type Downtime, markDowntime } from './live/downtime.ts';
import type { MigrationStatus, RoundReport } from './progress.ts';

/** How far RAM has been moved, in bytes since the beginning. */
export interface Moved {
  readonly content: number;
  readonly implied: number;
  readonly zero: number;
  readonly skipped: number;
  /** What is known of RAM so far, whether moved or not. Less may turn out to be there than was thought. */
  readonly foundContent: number;
  readonly foundZero: number;
}

export interface Sample extends Timed {
  /** Content moved, and RAM dealt with in all, since the beginning. */
  readonly content: number;
  readonly done: number;
}

/** The last pass that has begun. */
export interface Round {
  readonly round: number;
  readonly began: number;
  /** Absent: nobody has said how much it is. */
  readonly pending: number | undefined;
  readonly live: boolean;
  readonly before: Moved;
  readonly open: boolean;
}

type Synced = Extract<RoundEvent, { state: 'synced' }>;
export type Sync = Synced & Timed;

export interface MigrationState {
  readonly status: MigrationStatus;
  readonly phase: Phase;
  /** Times as {@link Timed}; absent: not yet. */
  readonly began?: number;
  readonly ramBegan?: number;
  readonly ramEnded?: number;
  readonly ended?: number;
  /** Queue pairs. */
  readonly channels: number;
  /** Links that took the place of one that broke. */
  readonly resumes: number;
  readonly total: number;
  readonly pageSize: number;
  readonly moved: Moved;
  readonly control: number;
  /** Of the last {@link WINDOW_MS} while RAM moves. */
  readonly samples: readonly Sample[];
  readonly round?: Round;
  /** Of a live migration, the last {@link MOST_ROUNDS}. */
  readonly rounds: readonly RoundReport[];
  readonly sync?: Sync;
  readonly throttle: number;
  readonly downtime?: Downtime;
}

/** The recent past that rates are taken from: long enough to even out a registration, short enough to follow a change of max-bandwidth. */
export const WINDOW_MS = 3_000;
/** A sample that comes sooner after the one before takes its place. */
const CLOSE_MS = 50;
const MOST_ROUNDS = 256;

const NOTHING: Moved = { content: 0, implied: 0, zero: 0, skipped: 0, foundContent: 0, foundZero: 0 };

/** Before the first event. `phase`: what a failure would be labelled with. */
export const initialState = (phase: Phase): MigrationState => ({
  status: 'setup',
  phase,
  channels: 1,
  resumes: 0,
  total: 0,
  pageSize: 4096,
  moved: NOTHING,
  control: 0,
  samples: [],
  rounds: [],
  throttle: 0,
});

/** What is known of an end when it is told: the result is made out of the state. */
export type Reducible = Exclude<MigrationEvent, { type: 'end' }> | EndMark;
export type EndMark = Timed & { readonly type: 'end'; readonly status: 'completed' | 'failed' | 'cancelled' };

export function reduce(state: MigrationState, event: Reducible): MigrationState {
  switch (event.type) {
    case 'phase':
      return enter(state, event.phase, event.at);
    case 'link':
      return link(state, event);
    case 'round':
      return round(state, event);
    case 'bytes':
      return bytes(state, event);
    case 'zero':
      return zero(state, event);
    case 'downtime':
      return event.ended === undefined
        ? { ...state, downtime: beginDowntime(state.downtime, event.at) }
        : withDowntime(state, markDowntime(state.downtime, event.ended, event.at));
    case 'throttle':
      return { ...state, throttle: event.percentage };
    case 'pin':
    case 'notice':
      return state;
    case 'end':
      return { ...state, status: event.status, ended: event.at };
  }
}

function enter(state: MigrationState, phase: Phase, at: number): MigrationState {
  if (phase === 'ram' && state.ramBegan === undefined)
    return { ...sampled({ ...state, phase }, at), status: 'active', ramBegan: at };
  if (phase === 'device-state' && state.ramEnded === undefined)
    return { ...state, phase, status: 'device', ramEnded: at };
  return { ...state, phase };
}

function link(state: MigrationState, event: LinkEvent & Timed): MigrationState {
  if (event.state === 'ram') return { ...state, total: event.total, pageSize: event['page-size'] };
  if (event.state === 'channels') return { ...state, channels: event.channels };
  if (event.state === 'lost') return state;
  if (event.state === 'restored') return { ...state, resumes: state.resumes + 1 };
  // The wait for a destination that is not up counts for nothing, as that for a source does.
  if (event.state === 'connecting') return { ...state, began: event.at };
  return { ...state, began: state.began ?? event.since };
}

function round(state: MigrationState, event: RoundEvent & Timed): MigrationState {
  switch (event.state) {
    case 'begins':
      return begins(state, event);
    case 'ends':
      return ends(state, event.at);
    case 'synced':
      return { ...state, sync: event };
  }
}

function begins(
  state: MigrationState,
  { round, pending: known, live, at }: Extract<RoundEvent, { state: 'begins' }> & Timed,
): MigrationState {
  const open = state.round;
  const pending = known === undefined ? undefined : Math.min(known, state.total);
  // How much a pass is to move may be heard of when it is under way.
  if (open?.open && open.round === round) return { ...state, round: { ...open, pending } };
  return { ...state, round: { round, began: at, pending, live, before: state.moved, open: true } };
}

function ends(state: MigrationState, at: number): MigrationState {
  const { round } = state;
  if (!round?.open) return state;
  const rounds = round.live ? [...state.rounds, report(state, round, at)].slice(-MOST_ROUNDS) : state.rounds;
  return { ...state, rounds, round: { ...round, open: false } };
}

function report(state: MigrationState, round: Round, at: number): RoundReport {
  const { moved, pageSize, throttle } = state;
  const { before } = round;
  const content = moved.content - before.content;
  return {
    round: round.round,
    time: at - round.began,
    'dirty-pages': (round.pending ?? 0) / pageSize,
    normal: content / pageSize,
    'normal-bytes': content,
    duplicate: (moved.zero - before.zero) / pageSize,
    skipped: (moved.skipped - before.skipped) / pageSize,
    ...known(state),
    'cpu-throttle-percentage': throttle,
  };
}

function known({ sync, downtime, pageSize }: MigrationState): Partial<RoundReport> {
  if (sync === undefined || downtime !== undefined) return {};
  return {
    'dirty-pages-rate': sync['dirty-bytes-rate'] / pageSize,
    'collect-time': sync['collect-time'],
    'expected-downtime': sync['expected-downtime'],
    verdict: sync.verdict,
  };
}

function bytes(state: MigrationState, event: BytesEvent & Timed): MigrationState {
  const { moved } = state;
  const content = Math.max(moved.content, event.content);
  const implied = Math.max(moved.implied, event.implied, content);
  const after = { ...moved, content, implied, foundContent: Math.max(event.found, implied) };
  const control = Math.max(state.control, event.control);
  return sampled({ ...state, moved: after, control }, event.at);
}

function zero(state: MigrationState, event: ZeroEvent): MigrationState {
  const { moved } = state;
  const bytes = Math.max(moved.zero, event.bytes);
  const skipped = Math.max(moved.skipped, event.skipped);
  const foundZero = Math.max(event.found, bytes);
  return { ...state, moved: { ...moved, zero: bytes, skipped, foundZero } };
}

function sampled(state: MigrationState, at: number): MigrationState {
  const { implied, zero } = state.moved;
  const sample = { at, content: implied, done: implied + zero };
  const [last, beforeLast] = [state.samples.at(-1), state.samples.at(-2)];
  const close = last !== undefined && beforeLast !== undefined && last.at - beforeLast.at < CLOSE_MS;
  const kept = close ? state.samples.slice(0, -1) : state.samples;
  // The newest of those that are too old stays: the window begins there.
  const first = kept.findLastIndex((old) => old.at <= at - WINDOW_MS);
  return { ...state, samples: [...kept.slice(Math.max(0, first)), sample] };
}

function withDowntime(state: MigrationState, downtime: Downtime | undefined): MigrationState {
  return downtime === undefined ? state : { ...state, downtime };
}

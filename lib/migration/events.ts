/**
 * What a session says while it moves a VM. The story of a migration is the list of these: progress, rates, the time left, the downtime's parts
 * and the result are made out of them by `reducer.ts`, and whoever wants to know more subscribes to the same list.
 *
 * Every event carries `at`: milliseconds since the migration began (`migrate()` or `receive()` was called), of a clock that never goes back.
 * What comes before that has 0. Counts only ever grow, and are bytes unless said otherwise. There is no event per page: `bytes`, `zero` and
 * `pin` are samples of counters, a few per second while RAM moves and at each end of a round.
 */
import type { ErrorCode, MigrationError, Phase } from '../errors.ts';
import type { ProviderName } from '../transport/provider.ts';
import type { Verdict } from './live/convergence.ts';
import type { DowntimePart } from './live/downtime.ts';
import type { MigrationResult } from './result.ts';

/** A phase has begun; it ends when the next one begins. */
export interface PhaseEvent {
  readonly type: 'phase';
  readonly phase: Phase;
}

/** What both ends have agreed on. */
export interface LinkTerms {
  /** Of QEMU's RDMA protocol. */
  readonly version: number;
  /** The commit handshake. */
  readonly commit: boolean;
  /** A link that breaks is replaced. */
  readonly resume: boolean;
  /** Zeros are told as ranges, and not where the destination has them. */
  readonly sparse: boolean;
  readonly crc: boolean;
  /** Queue pairs that the migration may have. */
  readonly channels: number;
  /** The destination's, bytes. */
  readonly 'pin-budget'?: number;
}

/**
 * The way to the peer. `connecting`: a source has begun to connect, and says so of each try (`waitMs`). `connected`: the peer is there, and what has been agreed with it is known.
 * `ram`: it is known how much is to be moved. `channels`: so many queue pairs carry it; a destination may hear of some late. `lost`: a channel's TCP
 * stream broke, a new one is looked for, and what it carries waits. `restored`: it goes on over a new one.
 */
export type LinkEvent =
  | { readonly type: 'link'; readonly state: 'connecting'; readonly provider: ProviderName }
  | {
      readonly type: 'link';
      readonly state: 'connected';
      /** When the connection was made, as `at` counts: a destination hears of a source only with its first message. */
      readonly since: number;
      /** Of the result: {@link MigrationFacts}. */
      readonly migrationId: string;
      readonly provider: ProviderName;
      /** host:port */
      readonly peer: string;
      /** The peer is an rdma-migrate. */
      readonly 'peer-extended': boolean;
      readonly 'pin-all': boolean;
      readonly agreed: LinkTerms;
    }
  | { readonly type: 'link'; readonly state: 'channels'; readonly channels: number }
  | {
      readonly type: 'link';
      readonly state: 'lost';
      /** From 1. */
      readonly channel: number;
      readonly why: ErrorCode;
    }
  | {
      readonly type: 'link';
      readonly state: 'restored';
      readonly channel: number;
      /** Milliseconds. */
      readonly 'lost-time': number;
    }
  | {
      readonly type: 'link';
      readonly state: 'ram';
      /** Bytes of RAM, and of one of its pages. */
      readonly total: number;
      readonly 'page-size': number;
    };

/**
 * A pass over RAM. `begins`: so many bytes are to be moved; absent where that is not known. `ends`: everything of it has arrived. `synced`: what
 * the guest has written since the last time has been collected, and it was decided how to go on.
 */
export type RoundEvent =
  | {
      readonly type: 'round';
      readonly state: 'begins';
      /** Counts from 1, the pass over all RAM. */
      readonly round: number;
      readonly pending?: number;
      /** The guest was running when the migration began: the source tells of each round. */
      readonly live: boolean;
    }
  | { readonly type: 'round'; readonly state: 'ends'; readonly round: number }
  | {
      readonly type: 'round';
      readonly state: 'synced';
      readonly pending: number;
      /** Bytes per second that the guest has written since the last time, whatever was done meanwhile. */
      readonly 'dirty-bytes-rate': number;
      /** Milliseconds. */
      readonly 'collect-time': number;
      readonly 'expected-downtime': number;
      /** What was allowed then, `downtimeLimitMs` of the options. */
      readonly 'downtime-limit': number;
      /** Bytes per second. */
      readonly 'switchover-bandwidth': number;
      readonly verdict: Verdict;
    };

/** Content of pages that has been moved. */
export interface BytesEvent {
  readonly type: 'bytes';
  /** Written and complete at the source; placed here at the destination, 0 on a device, which does not tell. */
  readonly content: number;
  /** At a destination whose device does not tell: so much must have come, by what the source has said since. */
  readonly implied: number;
  /** Of the stream around RAM: its framing and the device state. */
  readonly control: number;
  /** Content that is known to be moved, what has been included. */
  readonly found: number;
}

/** Pages that are zero. */
export interface ZeroEvent {
  readonly type: 'zero';
  /** Told to the destination as ranges, or passed over because it has zeros there anyway. */
  readonly bytes: number;
  /** Of those, passed over without a word. */
  readonly skipped: number;
  /** Found to be zero, whether dealt with or not. */
  readonly found: number;
}

/** What is registered of RAM, for the peer's WRITEs or for ours. */
export interface PinEvent {
  readonly type: 'pin';
  readonly registered: number;
  /** The most at one time. */
  readonly peak: number;
}

/**
 * The guest stands still. Without `ended`: the VMM is about to be asked to pause it. With it: the time since the last event of this type
 * belongs to that part of the downtime.
 */
export interface DowntimeEvent {
  readonly type: 'downtime';
  readonly ended?: DowntimePart;
}

/** The guest is denied so many percent of its CPU time; 0: none any more. */
export interface ThrottleEvent {
  readonly type: 'throttle';
  readonly percentage: number;
}

/** Why something is worth an operator's while. Stable; docs/events.md says what each one means. */
export const NOTICE_CODES = [
  'PROTECTED',
  'WAITING_FOR_PEER',
  'PIN_LIMIT',
  'PIN_ALL_DECLINED',
  'NOTHING_TO_CONTINUE',
  'UNPROTECTED',
  'PEER_REFUSED',
  'FEWER_CHANNELS',
  'LINK_LOST',
  'LINK_RESTORED',
  'STRANGER',
  'THROTTLED',
  'NO_THROTTLE',
  'DOWNTIME_UNREACHABLE',
  'TOO_LATE_TO_CANCEL',
  'SOURCE_NOT_TOLD',
  'ABORT_FAILED',
  'SUBSCRIBER_FAILED',
] as const;

/** Which notice, stable between releases. docs/events.md says what each means. */
export type NoticeCode = (typeof NOTICE_CODES)[number];

/** Numbers and names that go with a notice, such as `{ percentage: 20 }`. */
export type NoticeDetails = Readonly<Record<string, string | number | boolean>>;

/** Something an operator may want to know; not an error. */
export interface NoticeEvent {
  readonly type: 'notice';
  readonly code: NoticeCode;
  /** A sentence for people. */
  readonly message: string;
  readonly details: NoticeDetails;
}

/** The last one, whatever became of the migration. */
export type EndEvent =
  | { readonly type: 'end'; readonly status: 'completed'; readonly result: MigrationResult }
  | { readonly type: 'end'; readonly status: 'failed' | 'cancelled'; readonly error: MigrationError };

/** An event, and when it was: milliseconds since the migration began. */
export type MigrationEvent = { readonly at: number } & (
  | PhaseEvent
  | LinkEvent
  | RoundEvent
  | BytesEvent
  | ZeroEvent
  | PinEvent
  | DowntimeEvent
  | ThrottleEvent
  | NoticeEvent
  | EndEvent
);

/** The time of an event, {@link MigrationEvent}. */
export type Timed = Pick<MigrationEvent, 'at'>;

type Untimed<E> = E extends Timed ? Omit<E, 'at'> : never;
/** An event as a session says it. */
export type Said = Untimed<MigrationEvent>;

export type MigrationEventType = MigrationEvent['type'];

/** A notice. */
export const notice = (code: NoticeCode, message: string, details: NoticeDetails = {}): NoticeEvent => ({
  type: 'notice',
  code,
  message,
  details,
});

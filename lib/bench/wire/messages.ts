/**
 * What the two ends of a benchmark tell each other over SENDs. The end that measures asks, the end that listens answers each request once, with the
 * message that stands beside it here, or with `failed`.
 */
import type { MigrationError } from '../../errors.ts';
import type { PeerReason } from '../../protocol/reason.ts';

export type Operation = 'write' | 'read' | 'send';
export type Mode = 'throughput' | 'latency';

/** A machine, as its own end describes it. */
export interface Machine {
  readonly cpus: number;
  readonly model: string;
  readonly kernel: string;
  readonly node: string;
  /** Of rdma-migrate. */
  readonly tool: string;
}

/** A piece of registered memory, for the other end. */
export interface Place {
  readonly addr: bigint;
  readonly length: number;
  readonly rkey: number;
}

export type Request =
  /** `machine` */
  | { readonly type: 'who' }
  /** `opened`: buffers are registered, and as many data queue pairs may connect. */
  | ({ readonly type: 'open'; readonly crc: boolean; readonly place: Place } & Shape)
  /** `begun`: costs count from here. The next request comes within `mostMs`. */
  | { readonly type: 'begin'; readonly mostMs: number }
  /** `finished`: what it has cost since. */
  | { readonly type: 'finish' }
  /** `closed`: data queue pairs and buffers are gone. */
  | { readonly type: 'close' }
  /** `listening`: a destination waits for one migration, into fresh memory. `finish` waits for its end. */
  | {
      readonly type: 'migrate';
      readonly ramBytes: number;
      readonly crc: boolean;
      /** 0: what the destination grants by itself. */
      readonly channels: number;
      readonly mostMs: number;
    };

export interface Shape {
  readonly operation: Operation;
  readonly mode: Mode;
  readonly messageBytes: number;
  readonly depth: number;
  readonly queuePairs: number;
}

/** Of one end, between `begin` and `finish`. */
export interface Cost {
  /** Processor time of the process, microseconds. */
  readonly userUs: number;
  readonly systemUs: number;
  /** How much of the time its event loop was busy, in thousandths: near 1000, JavaScript was the limit. */
  readonly loopPermille: number;
}

export type Answer =
  | ({ readonly type: 'machine' } & Machine)
  | { readonly type: 'opened'; readonly place: Place }
  | { readonly type: 'begun' }
  | ({ readonly type: 'finished' } & Cost)
  | { readonly type: 'closed' }
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'failed'; readonly reason: PeerReason | MigrationError };

export type AnswerType = Exclude<Answer['type'], 'failed'>;

/** How a pass spent its time, as the native writer and the provider have counted it: what the link can do does not hang on anything else. */
import { COUNTER } from '../../native/transport.ts';
import type { Connection } from '../../transport/connection.ts';
import type { PassCosts } from '../ram-round.ts';

/** Milliseconds, counted up from the connection's beginning or of one pass. */
export interface WireTime {
  /** A WRITE was under way, up to its completion here. */
  readonly posted: number;
  /** Something had been sent and was not known to have arrived; 0 where completions tell that. Right over many milliseconds only. */
  readonly unacknowledged: number;
  /** No WRITE was under way because of max-bandwidth. */
  readonly held: number;
}

export function wireTimeOf(connection: Pick<Connection, 'counters' | 'stats'>): WireTime {
  const milliseconds = (at: number): number => Number(connection.counters[at] as bigint) / 1e6;
  return {
    posted: milliseconds(COUNTER.wireNanoseconds),
    held: milliseconds(COUNTER.heldNanoseconds),
    unacknowledged: Number(connection.stats().wireMicroseconds) / 1e3,
  };
}

/** `elapsedMs`: from the first look at RAM to the completion of the last WRITE. */
export function passCosts(before: WireTime, after: WireTime, elapsedMs: number): PassCosts {
  const posted = after.posted - before.posted;
  return {
    // A software RNIC completes what the kernel has taken; a device whose driver does likewise is not seen through.
    wireMs: Math.max(posted, after.unacknowledged - before.unacknowledged),
    overheadMs: Math.max(0, elapsedMs - posted - (after.held - before.held)),
  };
}

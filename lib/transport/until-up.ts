/** A peer that is not up yet, or takes nobody just now: connecting is tried again for a while. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, MigrationError, toMigrationError } from '../errors.ts';
import { cancelledError, throwIfAborted } from './wait.ts';

/** Nothing listens there, or its name is not known yet, or it has as many migrations as it may. Any other failure would only repeat itself. */
const NOT_UP: ReadonlySet<ErrorCode> = new Set(['CONNECTION_REFUSED', 'ADDRESS_NOT_FOUND', 'BUSY']);

/** A second is soon enough for an operator; the first tries come sooner, for the two ends are often started together. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;

export interface UntilUpLimits {
  /** How long to try again, milliseconds, from the first try on; 0: once. A try that began in time may end later. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Whether what has failed may be begun again: nothing has happened that must not happen twice. */
  readonly mayRepeat: (error: MigrationError) => boolean;
  /** Told when it is tried again: the first time, and when the reason has changed. */
  readonly onWaiting: (why: MigrationError, leftMs: number) => void;
}

/**
 * What `attempt` resolves with, tried again while the peer is not up.
 * @throws what the attempt throws, with `waitMs` in its details if it was tried again; CANCELLED, or the signal's MigrationError
 */
export async function untilUp<T>(attempt: () => Promise<T>, limits: UntilUpLimits): Promise<T> {
  const { waitMs, signal, mayRepeat, onWaiting } = limits;
  const deadline = performance.now() + waitMs;
  let told: string | undefined;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    throwIfAborted(signal, 'connect');
    try {
      return await attempt();
    } catch (thrown) {
      const error = toMigrationError(thrown, 'connect');
      const leftMs = deadline - performance.now();
      if (waitMs === 0 || !NOT_UP.has(error.code) || !mayRepeat(error)) throw error;
      if (leftMs <= 0) throw stillNotUp(error, waitMs);
      if (told !== error.code) onWaiting(error, leftMs);
      told = error.code;
      await pause(Math.min(pauseMs, leftMs), signal);
    }
  }
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, { ...(signal && { signal }) }).catch(() => {
    throw cancelledError(signal, 'connect');
  });
}

function stillNotUp(error: MigrationError, waitMs: number): MigrationError {
  const message = `${error.message} (after ${waitMs / 1000} s of trying)`;
  return new MigrationError(error.code, error.phase, message, {
    cause: error.cause,
    details: { ...error.details, waitMs },
  });
}

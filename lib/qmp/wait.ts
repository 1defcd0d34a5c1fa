import { raceAbort } from '../abort.ts';
import { MigrationError, type Phase } from '../errors.ts';
import { remedyOf } from '../waiting.ts';

/** Bounds of a wait. */
export interface WaitOptions {
  /** Milliseconds, more than 0. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** What is waited for, for the message: "QMP: stop: nothing within 10000 ms". */
export interface WaitSubject {
  readonly phase: Phase;
  readonly what: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * A promise that settles with `start`'s callbacks, or is rejected at the deadline or by the signal, whichever comes first.
 * Neither timer nor listener is left afterwards.
 *
 * @throws MigrationError `TIMEOUT` or `CANCELLED`.
 */
export async function waitFor<T>(
  subject: WaitSubject,
  start: (resolve: (value: T) => void, reject: (reason: unknown) => void) => void,
): Promise<T> {
  const { phase, what, timeoutMs, signal } = subject;
  if (signal?.aborted) throw cancelled(subject);
  let timer: NodeJS.Timeout | undefined;
  const settled = new Promise<T>((resolve, reject) => {
    timer = setTimeout(() => reject(timeout(phase, what, timeoutMs)), timeoutMs);
    start(resolve, reject);
  });
  try {
    return await raceAbort(settled, signal, () => cancelled(subject));
  } finally {
    clearTimeout(timer);
  }
}

function cancelled({ phase, what, signal }: WaitSubject): MigrationError {
  const message = `QMP: ${what}: cancelled by the caller`;
  return new MigrationError('CANCELLED', phase, message, { cause: signal?.reason });
}

function timeout(phase: Phase, what: string, timeoutMs: number): MigrationError {
  const message = `QMP: ${what}: nothing within ${timeoutMs} ms. ${remedyOf('qmp')}`;
  return new MigrationError('TIMEOUT', phase, message, { details: { timeoutMs, waitingFor: 'qmp' } });
}

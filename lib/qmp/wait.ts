import { MigrationError, type Phase } from '../errors.ts';

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
 * Afterwards neither timer nor listener is left.
 *
 * @throws MigrationError `TIMEOUT` or `CANCELLED`.
 */
export function waitFor<T>(
  subject: WaitSubject,
  start: (resolve: (value: T) => void, reject: (reason: unknown) => void) => void,
): Promise<T> {
  const { phase, what, timeoutMs, signal } = subject;
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const settled = new Promise<T>((resolve, reject) => {
    onAbort = () =>
      reject(
        new MigrationError('CANCELLED', phase, `QMP: ${what}: cancelled by the caller`, {
          cause: signal?.reason,
        }),
      );
    if (signal?.aborted) {
      onAbort();
      return;
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    timer = setTimeout(() => reject(timeout(phase, what, timeoutMs)), timeoutMs);
    start(resolve, reject);
  });
  return settled.finally(() => {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener('abort', onAbort);
  });
}

function timeout(phase: Phase, what: string, timeoutMs: number): MigrationError {
  const message = `QMP: ${what}: nothing within ${timeoutMs} ms. Is QEMU stopped, or is another client on its QMP socket?`;
  return new MigrationError('TIMEOUT', phase, message, { details: { timeoutMs } });
}

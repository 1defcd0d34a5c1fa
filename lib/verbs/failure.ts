import { MigrationError as Failure, type MigrationError, type Phase, toMigrationError } from '../errors.ts';

/** Runs a call into the addon. @throws MigrationError */
export function calling<T>(phase: Phase, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw toMigrationError(error, phase);
  }
}

/**
 * Runs a post. `details.posted` of what it throws is how many requests before the bad one were posted.
 * @throws MigrationError
 */
export function posting(body: () => number): number {
  try {
    return body();
  } catch (cause) {
    const { code, message } = toMigrationError(cause, 'verbs');
    const posted = (cause as { posted?: unknown }).posted;
    throw new Failure(code, 'verbs', message, {
      cause,
      details: typeof posted === 'number' ? { posted } : {},
    });
  }
}

export function closedError(what: string, phase: Phase = 'verbs'): MigrationError {
  return new Failure('CLOSED', phase, `${what} has been closed`);
}

/** Of an aborted signal: its reason if that is a MigrationError, else CANCELLED. */
export function cancelled(signal: AbortSignal | undefined, phase: Phase, what: string): MigrationError {
  if (signal?.reason instanceof Failure) return signal.reason;
  return new Failure('CANCELLED', phase, `${what} was cancelled`, { cause: signal?.reason });
}

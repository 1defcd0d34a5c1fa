/** What a source knows, and does not know, once it has asked the destination to take the VM over. */
import { MigrationError } from '../../errors.ts';
import type { Journal } from '../journal.ts';

/** The destination said that it does not take the VM: it is still the source's. */
export function isRefusal(error: unknown): boolean {
  return error instanceof MigrationError && (error.code === 'COMMIT_MISMATCH' || error.code === 'PEER_ERROR');
}

export function refused(status: string): MigrationError {
  return new MigrationError(
    'COMMIT_MISMATCH',
    'commit',
    `the destination received something else than was sent (${status}) and keeps nothing: the VM may go on at the source. Migrate again; ` +
      'if it happens again, check the memory and the network cards of both hosts (option crc detects damage on the wire)',
    { details: { status } },
  );
}

export function unknownOutcome(cause: unknown): MigrationError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MigrationError(
    'COMMIT_UNKNOWN',
    'commit',
    `the destination was asked to take the VM over and its answer is missing (${why}). Look at the destination BEFORE the VM goes on at the ` +
      'source: if it is complete there, it lives there',
    { cause },
  );
}

/**
 * What the destination has been asked cannot be taken back: a cancel is answered with a notice, and the outcome counts. `cancel`: the migration's
 * own; `timeoutMs`: how long the answer is waited for.
 */
export async function pastCancel<T>(
  asked: Promise<T>,
  { journal, cancel, timeoutMs }: { journal: Journal; cancel: AbortSignal | undefined; timeoutMs: number },
): Promise<T> {
  const tooLate = (): void => {
    const { reason } = cancel as AbortSignal;
    const isTime = reason instanceof MigrationError && reason.code === 'TIMEOUT';
    const what = isTime ? 'the time for all of the migration is over, but' : 'too late to be cancelled:';
    journal.notice(
      'TOO_LATE_TO_CANCEL',
      `${what} the destination has been asked to take the VM over. Its answer is waited for, ${timeoutMs / 1000} s at most`,
    );
  };
  cancel?.addEventListener('abort', tooLate, { once: true });
  try {
    return await asked;
  } finally {
    cancel?.removeEventListener('abort', tooLate);
  }
}

import { type ErrorCode, type MigrationError, type Phase, toMigrationError } from '../errors.ts';
import { within } from './wait.ts';

/** A provider that refuses a peer's message lingers for a second before it reports the end. */
export const END_REASON_MS = 2_000;

/** Codes of a call that failed because the connection ends, which may have a better reason. */
const ENDS: ReadonlySet<string> = new Set<ErrorCode>(['CONNECTION_CLOSED', 'CONNECTION_LOST']);

export const tellsOnlyTheEnd = ({ code }: MigrationError): boolean => ENDS.has(code);

/** Why a connection ended says more than that a call on it failed, and may be known a moment later. `closed`: its end, or null for a good one. */
export async function endReason(
  closed: Promise<Error | null>,
  failure: MigrationError,
  phase: Phase,
): Promise<MigrationError> {
  if (!tellsOnlyTheEnd(failure)) return failure;
  const limits = { timeoutMs: END_REASON_MS, phase, what: 'the reason of the end' };
  const reason = await within(closed, limits).catch(() => null);
  return reason === null ? failure : toMigrationError(reason, phase);
}

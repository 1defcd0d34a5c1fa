/** What an attacked migration may end as. Pure. */
import { type ErrorCode, MigrationError } from '../../../lib/errors.ts';
import type { Part } from '../../support/wire-units.ts';
import type { End, Outcome } from './attack.ts';

/** What somebody in between did. */
export interface Strike {
  /** From 0; the first one has the messages, the others are its rails. */
  readonly connection: number;
  readonly towards: 'source' | 'destination';
  readonly part: Part;
  /** Of that way of the connection. */
  readonly offset: number;
}

/** Codes that somebody in between can cause, at either end. */
const CODES: readonly ErrorCode[] = [
  ...(['CONNECTION_REFUSED', 'REJECTED', 'TIMEOUT', 'CONNECTION_CLOSED', 'CONNECTION_LOST'] as const),
  ...(['TLS_REQUIRED', 'TLS_FAILED', 'NOT_AUTHORIZED'] as const),
  ...(['MPA_ERROR', 'CRC_ERROR', 'INTEGRITY_ERROR', 'TERMINATE_RECEIVED', 'WIRE_ERROR'] as const),
  ...(['VERSION_MISMATCH', 'PROTOCOL_ERROR', 'PEER_ERROR'] as const),
];

/** Breaches of promise. `strike` undefined: nobody did anything. */
export function judge(outcome: Outcome, strike: Strike | undefined): string[] {
  const { source, destination, next, arrived, untouched } = outcome;
  const lies: string[] = [];
  if (!untouched) lies.push('the source’s RAM has changed');
  for (const [who, end] of Object.entries({ source, destination, next }))
    if (end && !isKnown(end, who))
      lies.push(`the ${who} ends with ${codeOf(end)}: ${(end as Error).message}`);
  const took = isDone(destination);
  if (took && !arrived) lies.push('the destination has completed with RAM that is not the source’s');
  if (isDone(source)) {
    if (!took) lies.push(`the source has completed, and the destination says ${codeOf(destination)}`);
    if (strike && !mayPass(strike)) lies.push('a changed byte was taken');
  } else if (codeOf(source) === 'COMMIT_UNKNOWN') {
    if (!strike || !mayHideTheCommit(strike)) lies.push('COMMIT_UNKNOWN, and nothing stood in the way');
  } else if (took && !(next && isDone(next))) {
    lies.push(`the source says ${codeOf(source)} and keeps its VM, and the destination has it too`);
  }
  if (!strike && !isDone(source)) lies.push(`nobody did anything, and the source says ${codeOf(source)}`);
  if (next && !isDone(next) && !(destination instanceof MigrationError))
    lies.push('the destination was waiting, and took another than the honest source');
  return lies;
}

const isDone = (end: End): boolean => !(end instanceof MigrationError);

export const codeOf = (end: End): string =>
  end instanceof MigrationError
    ? end.code === 'PEER_ERROR'
      ? `PEER_ERROR (${end.details.peerCode ?? 'without a reason'})`
      : end.code
    : end.outcome;

function isKnown(end: End, who: string): boolean {
  if (!(end instanceof MigrationError)) return end.outcome === 'committed';
  if (end.code === 'COMMIT_UNKNOWN') return who === 'source';
  const { peerCode } = end.details;
  return CODES.includes(end.code) && (peerCode === undefined || CODES.includes(peerCode as ErrorCode));
}

/**
 * The clear setup has bytes that mean nothing (read depths), as TLS's own frames have (the version of a record); what protects the rest comes of
 * the handshake all the same. After the last word nothing is left to harm, and a rail may be left out.
 */
const mayPass = ({ connection, part }: Strike): boolean =>
  connection > 0 || part === 'setup' || part === 'handshake' || part === 'end';

/** The answer to COMMIT is a message, and so is COMMIT. */
const mayHideTheCommit = ({ part }: Strike): boolean =>
  part === 'messages' || part === 'ram' || part === 'end';

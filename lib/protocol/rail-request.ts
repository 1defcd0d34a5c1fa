/** The request that makes one more queue pair of a migration, a rail, and its answer. */
import { MigrationError } from '../errors.ts';
import type { Rail } from './extension.ts';
import {
  decodeCapabilities,
  EXTENSION_VERSION,
  encodeCapabilities,
  PROTOCOL_VERSION,
} from './private-data.ts';

/** Source: the private data of the request that makes one more queue pair of a migration. */
export function requestRail(rail: Rail): Uint8Array {
  const extension = { version: EXTENSION_VERSION, flags: 0, checked: true, rail };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, extension });
}

/** Destination: takes a rail. Its private data says the same as the request's. */
export const answerRail = requestRail;

/**
 * What a request asks to be, if it is a rail's. undefined: it is a source's.
 * @throws MigrationError what {@link decodeCapabilities} throws
 */
export function railOf(privateData: Uint8Array): Rail | undefined {
  return decodeCapabilities(privateData).extension?.rail;
}

/** Source: reads the answer to {@link requestRail}. @throws MigrationError PROTOCOL_ERROR: it is no answer to that */
export function acceptRail(reply: Uint8Array, { token, index }: Rail): void {
  const rail = railOf(reply);
  if (rail?.token === token && rail.index === index) return;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'connect',
    `channel ${index + 1} was answered by something else than the destination`,
  );
}

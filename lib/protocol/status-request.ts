/** A request that only asks what became of a migration. */
import { MigrationError } from '../errors.ts';
import type { Offer } from './capabilities.ts';
import { FLAG } from './extension.ts';
import {
  decodeCapabilities,
  EXTENSION_VERSION,
  encodeCapabilities,
  hasFlag,
  PROTOCOL_VERSION,
} from './private-data.ts';

/** The private data of a request that only asks what became of a migration; the rest as in an offer. The reply's has nothing else to say. */
export function requestStatus(
  migrationId: string,
  { tls, softwareRnic }: Pick<Offer, 'tls' | 'softwareRnic'>,
): Uint8Array {
  const flags = FLAG.STATUS | (tls ? FLAG.TLS : 0) | (softwareRnic ? FLAG.SOFTWARE_RNIC : 0);
  const extension = { version: EXTENSION_VERSION, flags, checked: true, migrationId };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, extension });
}

/** Which migration a request asks for, and whether its sender has credentials. undefined: it is no such request, or cannot be read. */
export function statusAskedFor(
  privateData: Uint8Array,
): { readonly migrationId: string; readonly tls: boolean } | undefined {
  try {
    const asked = decodeCapabilities(privateData);
    const migrationId = asked.extension?.migrationId;
    if (migrationId === undefined || !hasFlag(asked, FLAG.STATUS)) return undefined;
    return { migrationId, tls: hasFlag(asked, FLAG.TLS) };
  } catch {
    return undefined;
  }
}

/** Where nothing is asked for any more than that. */
export const onlyAsks = (): MigrationError =>
  new MigrationError(
    'REJECTED',
    'negotiate',
    'it asks what became of a migration, of which nothing is known here',
  );

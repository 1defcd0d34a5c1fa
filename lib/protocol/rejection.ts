/**
 * Why an end goes no further: the private data of a rejection, and what is said where only one end has credentials.
 */
import { MigrationError } from '../errors.ts';
import { FLAG } from './extension.ts';
import {
  type Capabilities,
  decodeCapabilities,
  EXTENSION_VERSION,
  encodeCapabilities,
  hasFlag,
  PROTOCOL_VERSION,
} from './private-data.ts';

/** What a rejection says beside that it is one. */
export interface RejectionFacts {
  /** Only sources with credentials are let in. */
  readonly tls?: boolean;
  /** As many migrations are under way as may be: it may be asked again. */
  readonly busy?: boolean;
}

/** Destination: the private data of a rejection; its version is the one to fall back to. */
export function rejectionCapabilities({ tls = false, busy = false }: RejectionFacts = {}): Uint8Array {
  const flags = (tls ? FLAG.TLS : 0) | (busy ? FLAG.BUSY : 0);
  const extension = { version: EXTENSION_VERSION, flags, checked: true };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, ...(flags !== 0 && { extension }) });
}

/**
 * Source: what a rejection says of the reason. undefined: nothing that is known here, or nothing that can be read, as of QEMU; or zeros, which InfiniBand
 * and RoCE give where nothing was said. A destination with credentials says so in each of its rejections, whatever the reason.
 * @param credentials whether this end has some
 */
export function rejectedFor(
  rejection: Uint8Array,
  credentials: boolean,
  cause: unknown,
): MigrationError | undefined {
  const said = readRejection(rejection);
  if (said === undefined) return undefined;
  if (hasFlag(said, FLAG.TLS) !== credentials)
    return credentials ? destinationHasNone('connect', cause) : tlsRequired(cause);
  return hasFlag(said, FLAG.BUSY) ? destinationIsBusy(cause) : undefined;
}

/** What a source is told where as many migrations are under way as may be. */
function destinationIsBusy(cause: unknown): MigrationError {
  return new MigrationError(
    'BUSY',
    'connect',
    'the destination serves as many migrations as it may at one time. Try again when one of them has ended',
    { cause },
  );
}

function readRejection(privateData: Uint8Array): Capabilities | undefined {
  try {
    const said = decodeCapabilities(privateData);
    return said.version === 0 ? undefined : said;
  } catch {
    return undefined;
  }
}

/** Source with credentials: @throws MigrationError TLS_REQUIRED: the reply comes from an end without */
export function requireTls(reply: Uint8Array): void {
  if (!hasFlag(decodeCapabilities(reply), FLAG.TLS)) throw destinationHasNone('negotiate');
}

/** What a source without credentials is told of a destination that takes nobody else. */
function tlsRequired(cause: unknown): MigrationError {
  return new MigrationError(
    'TLS_REQUIRED',
    'connect',
    'the destination takes only sources that show who they are. Give this one credentials (--tls-creds)',
    { cause },
  );
}

/** What a source without credentials is refused for where there are some. */
export function sourceHasNone({ extension }: Capabilities): MigrationError {
  const who = extension ? 'has no credentials' : 'is a QEMU, or another program that cannot show who it is';
  return new MigrationError(
    'TLS_REQUIRED',
    'negotiate',
    `the source ${who}, and only sources with credentials are let in here (--tls-creds). Give it some (rdma-migrate send --tls-creds), or listen ` +
      'without, on a network that you trust',
  );
}

/** What a source with credentials is refused for where there are none. */
export const credentialsWanted = (): MigrationError =>
  new MigrationError(
    'TLS_REQUIRED',
    'negotiate',
    'the source wants a protected migration, and there are no credentials here. Give this end some too (--tls-creds)',
  );

const destinationHasNone = (phase: 'connect' | 'negotiate', cause?: unknown): MigrationError =>
  new MigrationError(
    'TLS_REQUIRED',
    phase,
    'this source has credentials (--tls-creds), and the destination has none: it was started without, or is a QEMU, or another program that cannot ' +
      'show who it is. Start the destination with credentials too (rdma-migrate receive --tls-creds), or send without, on a network that you trust',
    { cause },
  );

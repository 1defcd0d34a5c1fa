/** Whether a peer that has proved who it is may take part. */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { MigrationError } from '../errors.ts';
import { within } from '../transport/wait.ts';
import type { Authorize, TlsPeer } from './credentials.ts';
import { alternativeNames, commonNames, distinguishedName, relativeNames } from './names.ts';

/** What an embedder's callback may take: it may ask a service, but holds up a peer that waits. */
export const AUTHORIZE_MS = 10_000;

export interface Policy {
  /** Undefined: everybody whom the credentials admit. None: nobody. */
  readonly authz?: readonly string[];
  readonly authorize?: Authorize;
}

/** The peer as the callback sees it. */
export function describePeer(certificate: X509Certificate | undefined, pskName?: string): TlsPeer {
  if (!certificate) return { names: [], ...(pskName !== undefined && { pskName }) };
  return { certificate, subject: distinguishedName(certificate), names: alternativeNames(certificate) };
}

/** What a peer is called in messages. */
export const peerName = ({ subject, names, pskName }: TlsPeer): string =>
  pskName === undefined ? subject || names.join(', ') || 'a peer without a name' : `the key ${pskName}`;

/**
 * @param timeoutMs for the callback
 * @throws MigrationError NOT_AUTHORIZED: it is not in the list, or the callback does not say true
 */
export async function authorizePeer(
  peer: TlsPeer,
  { authz, authorize }: Policy,
  timeoutMs = AUTHORIZE_MS,
): Promise<void> {
  if (authz && !authz.some((name) => isNamed(peer, name)))
    throw notAuthorized(peer, 'is not among those that may take part (authz)');
  if (authorize) await ask(peer, authorize, timeoutMs);
}

/** Hostile or broken code must not let anybody in, nor hold anything up. */
async function ask(peer: TlsPeer, authorize: Authorize, timeoutMs: number): Promise<void> {
  const asked = (async () => authorize(peer))();
  let answer: unknown;
  try {
    answer = await within(asked, {
      phase: 'negotiate',
      timeoutMs,
      what: 'authorize to say whether the peer may take part',
    });
  } catch (error) {
    throw notAuthorized(peer, `is refused, for authorize ${reason(error, timeoutMs)}`, error);
  }
  if (answer === true) return;
  throw notAuthorized(
    peer,
    answer === false ? 'is refused by authorize' : 'is refused, for authorize has returned no boolean',
  );
}

function reason(error: unknown, timeoutMs: number): string {
  if (error instanceof MigrationError && error.code === 'TIMEOUT')
    return `has not answered within ${timeoutMs / 1000} s`;
  try {
    return `has failed: ${error instanceof Error ? error.message : String(error)}`;
  } catch {
    return 'has failed without words';
  }
}

const notAuthorized = (peer: TlsPeer, why: string, cause?: unknown): MigrationError =>
  new MigrationError('NOT_AUTHORIZED', 'negotiate', `${peerName(peer)} ${why}`, {
    details: { peer: peerName(peer) },
    ...(cause !== undefined && { cause }),
  });

/** Exactly; host names without regard to case, addresses however they are written. */
function isNamed({ certificate, pskName }: TlsPeer, name: string): boolean {
  if (!certificate) return pskName !== undefined && name === pskName;
  const relative = relativeNames(certificate);
  return (
    // GnuTLS, and QEMU with it, may show the names in the other order than RFC 4514.
    (relative.length > 0 && [distinguishedName(certificate), relative.join(',')].includes(name)) ||
    commonNames(certificate).includes(name) ||
    hasAlternativeName(certificate, name)
  );
}

function hasAlternativeName(certificate: X509Certificate, name: string): boolean {
  if (isIP(name) !== 0) return certificate.checkIP(name) !== undefined;
  return alternativeNames(certificate).some((alternative) => {
    const colon = alternative.indexOf(':');
    const [kind, value] = [alternative.slice(0, colon), alternative.slice(colon + 1)];
    if (kind === 'DNS') return value.toLowerCase() === name.toLowerCase();
    return ['URI', 'email'].includes(kind) && value === name;
  });
}

/** What went wrong in a TLS handshake, in words. Pure. */
import { MigrationError } from '../errors.ts';

/** By the codes of Node and OpenSSL. */
const WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED:
    'the peer’s certificate has expired (or the clock of this host is wrong). Make it a new one',
  CERT_NOT_YET_VALID: 'the peer’s certificate is not valid yet: compare the clocks of both hosts',
  CERT_REVOKED: 'the peer’s certificate has been revoked. Make it a new one',
  CRL_HAS_EXPIRED: 'the list of revoked certificates (ca-crl.pem) has expired at this end. Make a new one',
  UNABLE_TO_GET_CRL: 'ca-crl.pem of this end has no list of the authority that signed the peer’s certificate',
  INVALID_PURPOSE:
    'the peer’s certificate is for another purpose: a destination’s needs serverAuth, a source’s clientAuth',
  ERR_TLS_CERT_ALTNAME_INVALID:
    'the destination’s certificate is for another name than the one connected to: name the right one with --tls-hostname',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'the source has shown no certificate, and has to',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    'the destination wants a certificate of the source: put client-cert.pem and client-key.pem there',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the peer does not know the authority that signed this end’s certificate',
  ERR_SSL_BINDER_DOES_NOT_VERIFY: 'the peer has another key of that name (keys.psk)',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM:
    'the peer has shown no key that is known here: a key of another name, or certificates where keys are used here',
};

const UNKNOWN_AUTHORITY = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
]);

/** @param why what node:tls threw, or the code of its verdict on a certificate */
export function handshakeFailed(why: unknown): MigrationError {
  if (why instanceof MigrationError) return why;
  const reason = typeof why === 'string' ? why : codeOf(why);
  const cause = why instanceof Error ? { cause: why } : {};
  return new MigrationError('TLS_FAILED', 'negotiate', `the TLS handshake failed: ${wordsFor(reason, why)}`, {
    ...cause,
    ...(reason !== undefined && { details: { reason } }),
  });
}

/** All that it says is that the stream has ended; the stream may know why. */
export const isReset = (error: unknown): boolean =>
  (error instanceof MigrationError ? error.details.reason : codeOf(error)) === 'ECONNRESET';

function wordsFor(reason: string | undefined, why: unknown): string {
  if (reason !== undefined && UNKNOWN_AUTHORITY.has(reason))
    return 'the peer’s certificate was not signed by the authority in ca-cert.pem of this end';
  const known = reason === undefined ? undefined : WORDS[reason];
  if (known !== undefined) return known;
  if (reason === 'ECONNRESET') return 'the peer broke it off; its log says why';
  if (reason?.includes('_ALERT_')) return `the peer refused it (${reason}); its log says why`;
  return reason ?? (why instanceof Error ? why.message : String(why));
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : undefined;
}

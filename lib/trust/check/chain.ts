/** From a certificate up to the authority that everybody is asked to trust. Pure. */
import type { X509Certificate } from 'node:crypto';

/** OpenSSL goes on for longer; nobody does. */
const MOST_LINKS = 8;

export interface Chain {
  /** From the end's own certificate upwards. */
  readonly links: readonly X509Certificate[];
  /** The last one is a root among the authorities. */
  readonly complete: boolean;
}

/** @param sent the end's own certificate and the intermediate ones that it sends along */
export function chainOf(
  sent: readonly [X509Certificate, ...X509Certificate[]],
  authorities: readonly X509Certificate[],
): Chain {
  const links: X509Certificate[] = [sent[0]];
  let last: X509Certificate = sent[0];
  while (links.length < MOST_LINKS) {
    if (isRoot(last)) break;
    const issuer = [...authorities, ...sent.slice(1)].find((candidate) => signed(candidate, last));
    if (!issuer) return { links, complete: false };
    links.push(issuer);
    last = issuer;
  }
  return {
    links,
    complete: authorities.some(({ fingerprint256 }) => fingerprint256 === last.fingerprint256),
  };
}

const isRoot = (certificate: X509Certificate): boolean => signed(certificate, certificate);

function signed(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  } catch {
    return false; // a key of another kind
  }
}

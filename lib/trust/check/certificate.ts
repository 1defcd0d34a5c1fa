/** What can be wrong with one end's certificate. Pure. */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import type { TlsRole } from '../credentials.ts';
import { alternativeNames, distinguishedName } from '../names.ts';
import { chainOf } from './chain.ts';
import { type Finding, finding, MAKE_ANEW } from './finding.ts';

export interface Examined {
  readonly role: TlsRole;
  /** The end's own certificate and the intermediate ones after it. */
  readonly sent: readonly [X509Certificate, ...X509Certificate[]];
  readonly key: KeyObject;
  readonly authorities: readonly X509Certificate[];
  readonly now: Date;
  /** At a server: whom its certificate has to name. */
  readonly hostname?: string;
}

const DAY_MS = 86_400_000;
const SOON_DAYS = 14;
const LEAST_RSA_BITS = 2048;
/** id-kp-serverAuth and id-kp-clientAuth (RFC 5280, section 4.2.1.12), and anyExtendedKeyUsage. */
const PURPOSE: Readonly<Record<TlsRole, string>> = {
  server: '1.3.6.1.5.5.7.3.1',
  client: '1.3.6.1.5.5.7.3.2',
};
const ANY_PURPOSE = '2.5.29.37.0';

export const examineCertificate = (examined: Examined): readonly Finding[] =>
  [checkChain, checkDates, checkKey, checkPurpose, checkNames].map((check) => check(examined));

const judge = (role: TlsRole, what: string) =>
  finding(`tls-${role}-${what}`, `TLS ${role} certificate, ${what}`);

function checkChain({ role, sent, authorities }: Examined): Finding {
  const chain = judge(role, 'chain');
  const { links, complete } = chainOf(sent, authorities);
  const path = links.map((link) => distinguishedName(link) || 'a certificate without a subject').join(' ← ');
  if (complete) return chain.ok(path);
  return chain.fail(
    `${path}: this is not signed by an authority of ca-cert.pem`,
    'sign it with that authority, or put the authorities that have signed it into ca-cert.pem, intermediate ones also after the certificate itself',
  );
}

/** Of the whole chain: what runs out first counts. */
function checkDates({ role, sent, authorities, now }: Examined): Finding {
  const dates = judge(role, 'dates');
  const { links } = chainOf(sent, authorities);
  const from = new Date(Math.max(...links.map(({ validFrom }) => Date.parse(validFrom))));
  const to = new Date(Math.min(...links.map(({ validTo }) => Date.parse(validTo))));
  const days = (to.getTime() - now.getTime()) / DAY_MS;
  if (from > now)
    return dates.fail(
      `not valid before ${day(from)}`,
      `look at this host's clock (${day(now)}), or ${MAKE_ANEW}`,
    );
  if (days <= 0) return dates.fail(`expired on ${day(to)}`, MAKE_ANEW);
  const found = `valid until ${day(to)}`;
  if (days >= SOON_DAYS) return dates.ok(found);
  return dates.warning(
    `${found}: ${days < 1 ? 'less than a day' : `${Math.floor(days)} days`} left`,
    MAKE_ANEW,
  );
}

const day = (date: Date): string => date.toISOString().slice(0, 10);

function checkKey({ role, sent, key }: Examined): Finding {
  const judged = judge(role, 'key');
  if (!sent[0].checkPrivateKey(key))
    return judged.fail('the key belongs to another certificate', 'put certificate and key of one pair there');
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  const kind = `${key.asymmetricKeyType ?? 'a key'}${namedCurve ? ` ${namedCurve}` : ''}${modulusLength ? ` of ${modulusLength} bits` : ''}`;
  if (modulusLength !== undefined && modulusLength < LEAST_RSA_BITS)
    return judged.fail(`${kind}: too short`, MAKE_ANEW);
  return judged.ok(`${kind}, of this certificate`);
}

function checkPurpose({ role, sent: [own] }: Examined): Finding {
  const purpose = judge(role, 'purpose');
  const wanted = `${role}Auth`;
  // Node calls the extended key usage so.
  const allowed = own.keyUsage as readonly string[] | undefined;
  if (own.ca)
    return purpose.warning(
      'it is the certificate of an authority',
      `let an end have one of its own: ${MAKE_ANEW}`,
    );
  if (allowed === undefined) return purpose.ok(`not limited: serves as ${wanted} too`);
  if (allowed.includes(PURPOSE[role]) || allowed.includes(ANY_PURPOSE)) return purpose.ok(wanted);
  return purpose.fail(
    `its extended key usage has no ${wanted}: the other end refuses it`,
    `${MAKE_ANEW}, with extendedKeyUsage=${wanted}`,
  );
}

function checkNames({ role, sent: [own], hostname }: Examined): Finding {
  const names = judge(role, 'names');
  const alternatives = alternativeNames(own);
  if (role === 'client')
    return names.ok([distinguishedName(own), ...alternatives].filter(Boolean).join(', '));
  const remedy = `${MAKE_ANEW}, with subjectAltName`;
  if (!alternatives.some((name) => /^(DNS|IP Address):/.test(name)))
    return names.warning(
      'it has no alternative name (subjectAltName): sources cannot tell that they have reached this host by its address, and by its name only for now',
      `${remedy}=DNS:NAME,IP:ADDRESS of this host`,
    );
  if (hostname === undefined) return names.ok(alternatives.join(', '));
  if (checkServerIdentity(hostname, own.toLegacyObject()) === undefined)
    return names.ok(`${alternatives.join(', ')}: covers ${hostname}`);
  return names.fail(
    `${alternatives.join(', ')}: not ${hostname}, and sources that connect to that refuse it`,
    `${remedy} of ${isIP(hostname) === 0 ? 'DNS' : 'IP'}:${hostname}, or give sources the right --tls-hostname`,
  );
}

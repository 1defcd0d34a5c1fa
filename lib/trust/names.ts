/** The names in a certificate. Pure. */
import type { X509Certificate } from 'node:crypto';

/**
 * The relative distinguished names of a subject, in the certificate's order, each escaped as RFC 4514 has it. Node has one on each line, and
 * no line end within one.
 */
export const relativeNames = ({ subject }: X509Certificate): readonly string[] =>
  // A certificate without a subject has none at all, whatever the type says.
  ((subject as string | undefined) ?? '').split('\n').filter((name) => name !== '');

/** RFC 4514: the most specific name first, `CN=host-b,O=Example`. */
export const distinguishedName = (certificate: X509Certificate): string =>
  [...relativeNames(certificate)].reverse().join(',');

/** The common names, unescaped as far as they need it: what has an escape in it is left out. */
export const commonNames = (certificate: X509Certificate): readonly string[] =>
  relativeNames(certificate)
    .flatMap((name) => name.split(' + '))
    .filter((name) => name.startsWith('CN=') && !name.includes('\\'))
    .map((name) => name.slice('CN='.length));

/** `DNS:a, IP Address:192.0.2.7, URI:"a, b"`: what could be taken for something else is quoted as JSON. */
const ALTERNATIVE_NAME = /(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/y;

/** The alternative names, `KIND:VALUE`; none from the first on that cannot be read. */
export function alternativeNames({ subjectAltName = '' }: X509Certificate): readonly string[] {
  const names: string[] = [];
  ALTERNATIVE_NAME.lastIndex = 0;
  for (let match = next(subjectAltName); match; match = next(subjectAltName)) {
    const [, kind = '', value = ''] = match;
    names.push(`${kind}:${value.startsWith('"') ? (JSON.parse(value) as string) : value}`);
  }
  return names;
}

const next = (text: string): RegExpExecArray | null => ALTERNATIVE_NAME.exec(text);

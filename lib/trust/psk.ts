/** Keys that both ends know (PSK, RFC 8446), as QEMU's `tls-creds-psk` and GnuTLS's psktool have them. Pure. */
import { badCredentials } from './invalid.ts';

/** What OpenSSL and GnuTLS both take, bytes. psktool makes 32. */
const LEAST_KEY_BYTES = 16;
const MOST_KEY_BYTES = 64;
const MOST_NAME_BYTES = 128;
const MOST_KEYS = 4096;
/** What QEMU calls a client that has not been told its name. */
export const DEFAULT_PSK_NAME = 'qemu';

/**
 * Reads `keys.psk`: lines `name:hexkey`; empty ones are passed over. Never quotes a key.
 * @throws MigrationError CREDENTIALS_INVALID
 */
export function parsePskFile(text: string, file: string): ReadonlyMap<string, Uint8Array> {
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  const entries = lines.flatMap((line, index): [string, string][] => {
    if (line === '') return [];
    const colon = line.lastIndexOf(':');
    if (colon < 0) throw badCredentials(`${file}, line ${index + 1}: expected name:hexkey`);
    return [[line.slice(0, colon), line.slice(colon + 1)]];
  });
  return pskKeys(entries, file);
}

/** @throws MigrationError CREDENTIALS_INVALID: none, too many, a name twice, a name or key that cannot be used */
export function pskKeys(
  entries: readonly (readonly [name: string, key: unknown])[],
  where: string,
): ReadonlyMap<string, Uint8Array> {
  if (entries.length === 0 || entries.length > MOST_KEYS)
    throw badCredentials(`${where} has ${entries.length} keys: expected 1 to ${MOST_KEYS}`);
  const keys = new Map<string, Uint8Array>();
  for (const [name, key] of entries) {
    checkName(name, where);
    if (keys.has(name)) throw badCredentials(`${where} has two keys of the name ${name}`);
    keys.set(name, keyBytes(key, `${where}, the key of ${name}`));
  }
  return keys;
}

function checkName(name: string, where: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes >= 1 && bytes <= MOST_NAME_BYTES && !/^#|[\p{Cc}:]/u.test(name)) return;
  throw badCredentials(
    `${where} has a name that cannot be used: expected 1 to ${MOST_NAME_BYTES} bytes without a colon or control characters, and no # at the ` +
      'beginning',
  );
}

function keyBytes(key: unknown, what: string): Uint8Array {
  const bytes = typeof key === 'string' ? fromHex(key) : key instanceof Uint8Array ? key : undefined;
  if (bytes === undefined) throw badCredentials(`${what} is not hexadecimal`);
  if (bytes.length >= LEAST_KEY_BYTES && bytes.length <= MOST_KEY_BYTES) return Uint8Array.from(bytes);
  throw badCredentials(
    `${what} has ${bytes.length} bytes: expected ${LEAST_KEY_BYTES} to ${MOST_KEY_BYTES}. psktool makes one of 32`,
  );
}

const fromHex = (text: string): Uint8Array | undefined =>
  /^(?:[0-9a-f]{2})*$/i.test(text) ? Buffer.from(text, 'hex') : undefined;

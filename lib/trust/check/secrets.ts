/** Files that nobody else may read, and what is in a file of keys. Pure. */
import type { ReadFile } from '../folder.ts';
import { DEFAULT_PSK_NAME, parsePskFile } from '../psk.ts';
import { type Finding, finding } from './finding.ts';

const OTHERS = 0o007;
const GROUP_WRITE = 0o020;
/** What psktool makes: a key that can be guessed by nobody, ever. */
const GOOD_KEY_BYTES = 32;

/** Whoever reads a key is that end, for the other. */
export function checkMode({ path, mode }: ReadFile): Finding {
  const judged = finding('tls-key-mode', 'TLS key, who may read it');
  const shown = `${path} has mode ${mode.toString(8).padStart(4, '0')}`;
  if ((mode & (OTHERS | GROUP_WRITE)) === 0) return judged.ok(shown);
  return judged.fail(
    `${shown}: not only its owner may ${(mode & GROUP_WRITE) === 0 ? 'read' : 'change'} it`,
    `chmod 600 ${path}, and make a new key if somebody else may have read it`,
  );
}

export function checkPskFile({ path, text }: ReadFile): Finding {
  const judged = finding('tls-psk', 'TLS keys');
  let keys: ReadonlyMap<string, Uint8Array>;
  try {
    keys = parsePskFile(text, path);
  } catch (error) {
    return judged.fail((error as Error).message, `psktool -u ${DEFAULT_PSK_NAME} -p ${path}`);
  }
  const short = [...keys].filter(([, key]) => key.length < GOOD_KEY_BYTES).map(([name]) => name);
  const found = `${keys.size === 1 ? 'a key' : `${keys.size} keys`} in ${path}`;
  if (short.length > 0)
    return judged.warning(
      `${found}; shorter than ${GOOD_KEY_BYTES} bytes: ${few(short)}`,
      `make random ones of ${GOOD_KEY_BYTES} bytes: psktool -u NAME -p ${path}`,
    );
  if (!keys.has(DEFAULT_PSK_NAME))
    return judged.warning(
      `${found}, none of the name ${DEFAULT_PSK_NAME}, which a source shows by default`,
      `at a source, say which: --tls-psk-name ${few([...keys.keys()])}`,
    );
  return judged.ok(`${found}: ${few([...keys.keys()])}`);
}

const FEW = 5;

const few = (names: readonly string[]): string =>
  names.length <= FEW ? names.join(', ') : `${names.slice(0, FEW).join(', ')}, ...`;

/** Files and objects with which an end proves who it is. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ErrorCode } from '../../../lib/errors.ts';
import { checkCredentials } from '../../../lib/trust/check/index.ts';
import type { TlsRole, X509Credentials } from '../../../lib/trust/credentials.ts';
import { openTrust } from '../../../lib/trust/open.ts';
import { parsePskFile } from '../../../lib/trust/psk.ts';
import type { Random } from '../../campaign/random.ts';
import { x509 } from '../../trust/attack/ways.ts';
import { Finding, same, tried, triedLater } from '../judge.ts';
import { mutate, mutateText, randomBytes } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['CREDENTIALS_INVALID'];
const FIELDS = ['ca', 'cert', 'key', 'crl'] as const;
const FILES = {
  ca: 'ca-cert.pem',
  cert: 'server-cert.pem',
  key: 'server-key.pem',
  crl: 'ca-crl.pem',
} as const;
const KEYS = [
  `qemu:${'5a'.repeat(32)}`,
  `host-b.example:${'0f'.repeat(16)}`,
  '',
  `Günther:${'AB'.repeat(64)}`,
  '',
].join('\n');

/** As text. */
type Texts = Partial<Record<(typeof FIELDS)[number], string>>;
let ends: Readonly<Record<TlsRole, Texts>> = { client: {}, server: {} };
let folder = '';

export const credentials: Target = {
  name: 'credentials',
  feeds:
    'what loads and checks credentials with PEM texts and keys.psk, damaged as text and as what the text stands for',
  reaches: ['keys taken', 'x509 taken', 'undamaged', 'checked', 'CREDENTIALS_INVALID'],
  async open() {
    const { source, destination } = x509();
    ends = { client: textsOf(source.tls?.creds), server: textsOf(destination.tls?.creds) };
    folder = mkdtempSync(join(tmpdir(), 'rdma-migrate-fuzz-credentials-'));
    return {
      async [Symbol.asyncDispose]() {
        rmSync(folder, { recursive: true });
      },
    };
  },
  async play(random, hit) {
    const kind = random.next();
    if (kind < 0.5) keys(random, hit);
    else if (kind < 0.97) await object(random, hit);
    else await files(random, hit);
  },
};

const textsOf = (creds: unknown): Texts => {
  const { ca, cert, key } = creds as Required<Pick<X509Credentials, 'ca' | 'cert' | 'key'>>;
  return { ca: String(ca), cert: String(cert), key: String(key) };
};

function keys(random: Random, hit: Hit): void {
  const text = random.chance(0.2)
    ? randomBytes(random, random.below(300)).toString('latin1')
    : mutateText(random, KEYS);
  const taken = tried(CODES, hit, () => parsePskFile(text, 'keys.psk'));
  if (taken === undefined) return;
  hit('keys taken');
  for (const [name, key] of taken)
    if (key.length < 16 || key.length > 64 || /[:\n\0]/.test(name))
      throw new Finding(`a key '${name}' of ${key.length} bytes was taken`);
  const lines = [...taken].map(([name, key]) => `${name}:${Buffer.from(key).toString('hex')}`);
  same('keys that were read and written', parsePskFile(lines.join('\n'), 'keys.psk'), taken);
}

async function object(random: Random, hit: Hit): Promise<void> {
  const role = random.pick(['client', 'server'] as const);
  const damaged = random.chance(0.9);
  const creds = damaged ? damage(random, ends[role]) : ends[role];
  const asBytes = random.chance(0.2);
  const given = Object.fromEntries(
    Object.entries(creds).map(([name, text]) => [name, asBytes ? Buffer.from(text) : text]),
  ) as unknown as X509Credentials;
  const opened = await triedLater(CODES, hit, () => openTrust({ creds: given }, role, 'server.example'));
  if (opened) hit(damaged ? 'x509 taken' : 'undamaged');
  else if (!damaged) throw new Finding('undamaged credentials are refused');
}

/** Never throws, whatever is there. */
async function files(random: Random, hit: Hit): Promise<void> {
  const creds = damage(random, ends.server);
  for (const name of FIELDS) rmSync(join(folder, FILES[name]), { force: true });
  for (const name of FIELDS)
    if (creds[name] !== undefined) writeFileSync(join(folder, FILES[name]), creds[name], { mode: 0o600 });
  const findings = await checkCredentials(folder, { hostname: 'server.example' });
  if (findings.length === 0) throw new Finding('nothing is said of a folder');
  hit('checked');
}

/** One text, or two of them in each other's place. */
function damage(random: Random, texts: Texts): Texts {
  const name = random.pick(FIELDS);
  if (random.chance(0.1)) return { ...texts, [name]: texts[random.pick(FIELDS)] ?? '' };
  const text = texts[name] ?? texts.ca ?? '';
  return { ...texts, [name]: random.chance(0.5) ? mutateText(random, text) : mutateDer(random, text) };
}

/** Damages what is in base64, so that more than the text is looked at. */
function mutateDer(random: Random, text: string): string {
  return text.replace(/(-----BEGIN [^-]*-----)([^-]*)(-----END)/, (_, begin, body, end) => {
    const der = mutate(random, Buffer.from(body as string, 'base64')).toString('base64');
    return `${begin}\n${der.replace(/.{64}/g, '$&\n')}\n${end}`;
  });
}

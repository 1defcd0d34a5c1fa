/** What comes before a connection is protected: clear messages that should carry a TLS handshake, from a stranger or with somebody in between. */
import type { ErrorCode, MigrationError } from '../../../lib/errors.ts';
import type { Credentials, TlsRole } from '../../../lib/trust/credentials.ts';
import { loadCredentials } from '../../../lib/trust/load.ts';
import { MOST_BYTES, MOST_MESSAGES } from '../../../lib/trust/message-stream.ts';
import { type Protection, protect } from '../../../lib/trust/protection.ts';
import { SealedMessages } from '../../../lib/trust/sealed-messages.ts';
import type { Random } from '../../campaign/random.ts';
import { psk, x509 } from '../../trust/attack/ways.ts';
import { Finding, refused, same } from '../judge.ts';
import { mutate, randomBytes } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['TLS_FAILED', 'INTEGRITY_ERROR', 'PROTOCOL_ERROR'];
const CLEAR = { request: Buffer.from('request'), reply: Buffer.from('reply') };
/** Both ends work in turns of the event loop alone: who has said nothing for so many waits for what never comes. */
const SILENT_TURNS = 60;
const LIMITS = { timeoutMs: 60_000 };
/** Of the stream: a message more than is allowed is read, and refused. */
const LARGEST_MESSAGE = 512 * 1024;

type Ends = Readonly<Record<TlsRole, Credentials>>;
let credentials: readonly Ends[] = [];

export const tlsMessages: Target = {
  name: 'tls-messages',
  feeds:
    'both ends of the TLS handshake over messages with made-up messages, and with those of the other end, damaged',
  reaches: ['undamaged', 'protected', 'alone', 'between', 'TLS_FAILED', 'INTEGRITY_ERROR'],
  shortRun: 400,
  async open() {
    const ends = [psk(), x509()].map(async ({ source, destination }): Promise<Ends> => {
      if (!source.tls || !destination.tls) throw new Error('no credentials');
      return {
        client: await loadCredentials(source.tls.creds, 'client'),
        server: await loadCredentials(destination.tls.creds, 'server'),
      };
    });
    credentials = await Promise.all(ends);
    return { async [Symbol.asyncDispose]() {} };
  },
  async play(random, hit) {
    const ends = random.pick(credentials);
    const kind = random.next();
    if (kind < 0.4) await alone(random, ends, hit);
    else await together(ends, kind < 0.5 ? undefined : damageOf(random), hit);
  },
};

/** Messages on their way to one end. Null is its end, for ever. */
class Line {
  taken = 0;
  takenBytes = 0;
  readonly #messages: (Uint8Array | null)[] = [];
  #wake = (): void => {};

  put(message: Uint8Array | null): void {
    this.#messages.push(message);
    this.#wake();
  }

  async take(): Promise<Uint8Array | null> {
    while (this.#messages.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const [message = null] = this.#messages;
    if (message === null) return null;
    this.#messages.shift();
    this.taken += 1;
    this.takenBytes += message.length;
    return message;
  }

  requireBounded(): void {
    if (this.taken > MOST_MESSAGES + 2 || this.takenBytes > MOST_BYTES + LARGEST_MESSAGE)
      throw new Finding(`a stranger was listened to for ${this.taken} messages, ${this.takenBytes} bytes`);
  }
}

const secured = (
  role: TlsRole,
  ends: Ends,
  incoming: Line,
  send: (message: Uint8Array) => void,
): Promise<Protection | MigrationError> => {
  const port = new SealedMessages({
    send: async (message) => send(Buffer.from(message)),
    receive: () => incoming.take(),
  });
  const trust = { role, credentials: ends[role], hostname: 'server.example' };
  return protect(port, trust, CLEAR, LIMITS).catch((error: MigrationError) => error);
};

/** A stranger who says whatever comes to his mind, and goes. */
async function alone(random: Random, ends: Ends, hit: Hit): Promise<void> {
  const incoming = new Line();
  for (let left = random.below(random.chance(0.1) ? 60 : 6); left > 0; left--) incoming.put(madeUp(random));
  incoming.put(null);
  hit('alone');
  const end = await secured(random.pick(['client', 'server'] as const), ends, incoming, () => {});
  incoming.requireBounded();
  if (!(end instanceof Error)) throw new Finding('a stranger was let in');
  refused(end, CODES, hit);
}

function madeUp(random: Random): Buffer {
  const kind = random.chance(0.8) ? 0 : random.pick([1, 2, 255]);
  const body = randomBytes(random, random.below(random.chance(0.1) ? 20_000 : 80));
  if (random.chance(0.2)) return body;
  const record = Buffer.from([random.pick([20, 21, 22, 23, 24]), 3, random.pick([0, 1, 3, 4]), 0, 0]);
  record.writeUInt16BE(random.chance(0.7) ? body.length : random.below(0x1_0000), 3);
  const hello = Buffer.from([random.pick([1, 2, 8, 11, 20]), 0, 0, Math.max(0, body.length - 4) & 0xff]);
  if (random.chance(0.6)) hello.copy(body);
  return Buffer.concat([Buffer.of(kind), random.chance(0.8) ? record : Buffer.alloc(0), body]);
}

/** What is done to one of the messages of a handshake: those that come instead of it. */
type Damage = (message: Buffer, number: number) => readonly Buffer[];

function damageOf(random: Random): Damage {
  const place = random.below(9);
  const seen: Buffer[] = [];
  const deed = random.pick<(message: Buffer) => readonly Buffer[]>([
    (message) => [mutate(random, message)],
    (message) => [Buffer.concat([message.subarray(0, 1), mutate(random, message.subarray(1))])],
    () => [],
    (message) => [message, message],
    (message) => [madeUp(random), message],
    (message) => [random.pick(seen), message],
    () => [madeUp(random)],
  ]);
  return (message, number) => {
    seen.push(message);
    return number === place ? deed(message) : [message];
  };
}

async function together(ends: Ends, damage: Damage | undefined, hit: Hit): Promise<void> {
  const lines = { client: new Line(), server: new Line() };
  let said = 0;
  const to = (line: Line) => (message: Uint8Array) => {
    for (const each of damage?.(Buffer.from(message), said) ?? [message]) line.put(each);
    said += 1;
  };
  const hangUp = (): void => {
    for (const line of Object.values(lines)) line.put(null);
  };
  const run = async (role: TlsRole, other: TlsRole) => {
    const end = await secured(role, ends, lines[role], to(lines[other]));
    if (end instanceof Error) hangUp();
    return end;
  };
  const both = Promise.all([run('client', 'server'), run('server', 'client')]);
  if (damage) void hangUpWhenSilent(both, () => said, hangUp);
  const [client, server] = await both;
  for (const line of Object.values(lines)) line.requireBounded();
  hit(damage ? 'between' : 'undamaged');
  for (const end of [client, server]) if (end instanceof Error) refused(end, CODES, hit);
  if (client instanceof Error || server instanceof Error) {
    if (!damage) throw new Finding('an undamaged handshake fails');
    return;
  }
  hit('protected');
  same('the keys of both ends', client.keys.traffic(0).send, server.keys.traffic(0).receive);
}

async function hangUpWhenSilent(
  both: Promise<unknown>,
  said: () => number,
  hangUp: () => void,
): Promise<void> {
  let over = false;
  void both.then(() => {
    over = true;
  });
  let silent = 0;
  for (let before = -1; silent < SILENT_TURNS && !over; before = said()) {
    silent = said() === before ? silent + 1 : 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
  hangUp();
}

/** TLS over the messages of a connection, and keys from it. */
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import type { Trust } from '../../lib/trust/handshake.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import type { MessagePort } from '../../lib/trust/message-stream.ts';
import { protect } from '../../lib/trust/protection.ts';
import { SealedMessages } from '../../lib/trust/sealed-messages.ts';
import { credentialSets } from '../support/credentials.ts';
import { PATIENCE_MS } from '../support/patience.ts';

const LIMITS = { timeoutMs: 10_000 };
const CLEAR = { request: Buffer.from('request'), reply: Buffer.from('reply') };

/** Two ends of a connection; `between` sees each message, and may change it, or leave it out (null). */
function ends(between: (message: Buffer, from: 'client' | 'server') => Buffer | null = (message) => message) {
  const one =
    (from: 'client' | 'server', inbox: Inbox): MessagePort['send'] =>
    async (message) => {
      const passed = between(Buffer.from(message), from);
      if (passed) inbox.put(passed);
    };
  const [atClient, atServer] = [new Inbox(), new Inbox()];
  return {
    client: { send: one('client', atServer), receive: () => atClient.take() },
    server: { send: one('server', atClient), receive: () => atServer.take() },
    end: () => {
      for (const inbox of [atClient, atServer]) inbox.put(null);
    },
  };
}

class Inbox {
  readonly #messages: (Buffer | null)[] = [];
  #wake: (() => void) | undefined;
  put(message: Buffer | null): void {
    this.#messages.push(message);
    this.#wake?.();
  }
  async take(): Promise<Buffer | null> {
    while (this.#messages.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#messages.shift() as Buffer | null;
  }
}

const sets = credentialSets();

const trust =
  (role: Trust['role'], changed: Partial<Trust> = {}) =>
  async (folder: string): Promise<Trust> => ({
    role,
    credentials: await loadCredentials(folder, role),
    hostname: 'server.example',
    ...changed,
  });

interface Ends {
  readonly client: Trust;
  readonly server: Trust;
}
const trusts = async (client: string, server = client, changed: Partial<Trust> = {}): Promise<Ends> => ({
  client: await trust('client', changed)(client),
  server: await trust('server')(server),
});

const codeOf = (error: unknown): unknown => (error instanceof MigrationError ? error.code : error);

/** Both ends, each one's result or error; the connection ends when one has failed. */
async function both(
  link: ReturnType<typeof ends>,
  parameters: Ends,
  clear = { client: CLEAR, server: CLEAR },
  limits = LIMITS,
) {
  const ports = { client: new SealedMessages(link.client), server: new SealedMessages(link.server) };
  const run = (end: 'client' | 'server') =>
    protect(ports[end], parameters[end], clear[end], limits).catch((error: unknown) => {
      link.end();
      return error as MigrationError;
    });
  const [atClient, atServer] = await Promise.all([run('client'), run('server')]);
  return { ports, atClient, atServer };
}

describe.each([
  ['x509', () => trusts(sets.good)],
  ['a shared key', () => trusts(sets.psk)],
] as const)('with %s', (_, parameters) => {
  it('both ends get the same keys, and nothing of what follows is in clear', async () => {
    const seen: Buffer[] = [];
    const link = ends((message) => {
      seen.push(message);
      return message;
    });
    const { ports, atClient, atServer } = await both(link, await parameters());
    expect([atClient, atServer].map(codeOf)).toEqual([
      expect.objectContaining({}),
      expect.objectContaining({}),
    ]);
    const words = Buffer.from('REGISTER_RESULT of pc.ram');
    const answer = Buffer.from('the key is 4711');
    await ports.client.send(words);
    expect(await ports.server.receive()).toEqual(words);
    await ports.server.send(answer);
    expect(await ports.client.receive()).toEqual(answer);
    const wire = Buffer.concat(seen);
    for (const secret of [words, answer]) expect(wire.includes(secret)).toBe(false);
    if ('keys' in atClient && 'keys' in atServer) {
      for (const rail of [0, 1]) {
        const [one, other] = [atClient.keys.traffic(rail), atServer.keys.traffic(rail)];
        expect(one.send).toEqual(other.receive);
        expect(one.receive).toEqual(other.send);
        expect(one.send).not.toEqual(one.receive);
      }
      expect(atClient.keys.traffic(0).send).not.toEqual(atClient.keys.traffic(1).send);
    }
  });

  it('no byte of the handshake can be changed', async () => {
    const lengths: number[] = [];
    await both(
      ends((message) => {
        lengths.push(message.length);
        return message;
      }),
      await parameters(),
    );
    let failed = 0;
    for (const [index, length] of lengths.entries()) {
      for (let at = 0; at < length; at += Math.max(1, Math.floor(length / 12))) {
        let number = 0;
        let changed = false;
        const link = ends((message) => {
          // Signatures differ in length: it may be shorter this time.
          if (number++ === index && at < message.length) {
            message.writeUInt8(message.readUInt8(at) ^ 0x10, at);
            changed = true;
          }
          return message;
        });
        const { atClient, atServer } = await both(link, await parameters(), undefined, { timeoutMs: 1_000 });
        if (!changed) continue;
        const codes = [atClient, atServer].filter((end) => end instanceof MigrationError).map(codeOf);
        expect(codes.length, `message ${index}, byte ${at}`).toBeGreaterThan(0);
        for (const code of codes) expect(['TLS_FAILED', 'INTEGRITY_ERROR', 'TIMEOUT']).toContain(code);
        failed += 1;
      }
    }
    expect(failed).toBeGreaterThan(30);
  });

  it('ends that have heard different things in the clear do not get through', async () => {
    const changed = { request: Buffer.from('requesu'), reply: CLEAR.reply };
    const { atClient, atServer } = await both(ends(), await parameters(), { client: CLEAR, server: changed });
    expect([codeOf(atClient), codeOf(atServer)]).toEqual(['TLS_FAILED', 'INTEGRITY_ERROR']);
  });

  it.each<[string, (message: Buffer) => Buffer | null, string]>([
    ['is changed', (message) => Buffer.from(message.map((byte) => byte ^ 1)), 'INTEGRITY_ERROR'],
    ['is left out', () => null, 'TIMEOUT'],
  ])(
    'a client goes on when the server has used its keys, and not where that message %s',
    async (_, change, code) => {
      let last = false;
      const link = ends((message, from) => {
        if (from === 'client') return message;
        if (last) return change(message);
        last = message.equals(Buffer.of(1));
        return message;
      });
      const { atClient, atServer } = await both(link, await parameters(), undefined, { timeoutMs: 2_000 });
      expect([codeOf(atClient), atServer]).toEqual([
        code,
        expect.objectContaining({ cipher: expect.any(String) }),
      ]);
    },
  );

  it('who says LAST before its verdict is not waited for', async () => {
    const said: Buffer[] = [];
    const link = ends((message, from) => {
      if (from === 'client') said.push(Buffer.from(message));
      const verdict = from === 'client' && said.length === 3;
      return verdict ? null : message;
    });
    const { atServer } = await both(link, await parameters());
    expect(said[3]).toEqual(Buffer.of(1));
    expect(codeOf(atServer)).toBe('TLS_FAILED');
  });

  it('a connection that ends is not a handshake that failed', async () => {
    const lost = Object.assign(new Error('the network is gone'), { code: 'CONNECTION_LOST' });
    for (const way of ['send', 'receive'] as const)
      for (const end of ['client', 'server'] as const)
        for (let whole = 0; whole < 4; whole++) {
          const link = ends();
          const port = link[end];
          let left = whole;
          const failing = async (message: Uint8Array) => {
            if (left-- === 0) throw lost;
            return way === 'send' ? port.send(message) : port.receive();
          };
          link[end] = { ...port, [way]: failing };
          const outcome = await both(link, await parameters());
          const ended = end === 'client' ? outcome.atClient : outcome.atServer;
          expect(codeOf(ended), `${way} ${whole} of the ${end}`).toBe('CONNECTION_LOST');
        }
  });

  it('its limit of time is one for all', async () => {
    const delayed = async (delayMs: number, timeoutMs: number) => {
      const link = ends();
      const { send } = link.server;
      let sent = 0;
      link.server.send = async (message) => {
        sent += 1;
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        return send(message);
      };
      const { atClient } = await both(link, await parameters(), undefined, { timeoutMs });
      return { atClient, sent };
    };
    const { sent } = await delayed(0, LIMITS.timeoutMs);
    // The last two come after the handshake.
    const { atClient } = await delayed(300, 300 * (sent - 0.5));
    expect(codeOf(atClient)).toBe('TIMEOUT');
  });
});

describe('nothing goes on with', () => {
  it.each([
    ['a client of another CA', () => trusts(sets.otherCa, sets.good)],
    ['a server of another CA', () => trusts(sets.good, sets.otherCa)],
    ['a server of another name', () => trusts(sets.good, sets.good, { hostname: 'elsewhere.example' })],
    ['a client without a certificate', () => trusts(sets.serverOnly, sets.good)],
    ['another shared key', () => trusts(sets.otherPsk, sets.psk)],
    ['x509 against a shared key', () => trusts(sets.good, sets.psk)],
  ])('%s', async (_, parameters) => {
    const { atClient, atServer } = await both(ends(), await parameters());
    expect([codeOf(atClient), codeOf(atServer)]).toEqual(['TLS_FAILED', 'TLS_FAILED']);
  });
});

describe('a peer that', () => {
  const strange = async (messages: readonly Buffer[], timeoutMs: number) => {
    const link = ends();
    for (const message of messages) await link.client.send(message);
    return protect(new SealedMessages(link.server), await trust('server')(sets.good), CLEAR, {
      timeoutMs,
    }).catch(codeOf);
  };
  const long = (bytes: number) =>
    Array.from({ length: 40 }, () => Buffer.concat([Buffer.of(0), Buffer.alloc(bytes, 22)]));
  it.each([
    ['says nothing', [], 'TIMEOUT'],
    ['speaks no TLS', [Buffer.from('\0GET / HTTP/1.1\r\n\r\n')], 'TLS_FAILED'],
    ['says LAST at once', [Buffer.of(1)], 'TLS_FAILED'],
    ['does not send its first record whole', [Buffer.of(0, 22, 3, 1, 0, 9)], 'TIMEOUT'],
    ['sends an empty message', [Buffer.alloc(0)], 'TLS_FAILED'],
    ['does not end', long(1), 'TLS_FAILED'],
    ['sends much', long(16_000), 'TLS_FAILED'],
    ['speaks the migration’s protocol', [Buffer.alloc(12, 9)], 'TLS_FAILED'],
  ])('%s', async (_, messages, code) => {
    expect(await strange(messages, PATIENCE_MS)).toBe(code);
  });

  it('replays the messages of another handshake gets nowhere', async () => {
    const said: Buffer[] = [];
    await both(
      ends((message, from) => {
        if (from === 'client') said.push(Buffer.from(message));
        return message;
      }),
      await trusts(sets.good),
    );
    expect(said.length).toBeGreaterThan(2);
    expect(['TLS_FAILED', 'TIMEOUT']).toContain(await strange(said, PATIENCE_MS));
  });
});

it('a server computes nothing before a whole record has come and it is its turn', async () => {
  const link = ends();
  const seen: string[] = [];
  let letBegin = (): void => {};
  const turn = new Promise<void>((resolve) => {
    letBegin = resolve;
  });
  const watch = {
    begins: async () => {
      seen.push('begins');
      await turn;
    },
    proved: () => void seen.push('proved'),
  };
  const { client, server } = await trusts(sets.good);
  let sent = 0;
  const port = {
    send: async (message: Uint8Array) => {
      sent += 1;
      await link.server.send(Buffer.from(message));
    },
    receive: link.server.receive,
  };
  const atServer = protect(new SealedMessages(port), { ...server, watch }, CLEAR, LIMITS);
  const atClient = protect(new SealedMessages(link.client), client, CLEAR, LIMITS);
  await expect.poll(() => seen).toEqual(['begins']);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(sent).toBe(0);
  letBegin();
  await Promise.all([atServer, atClient]);
  expect(seen).toEqual(['begins', 'proved']);
});

it('sealed messages are taken once, in order, and whole', async () => {
  const secrets = { send: Buffer.alloc(48, 3), receive: Buffer.alloc(48, 4) };
  const sealed: Buffer[] = [];
  const out = new SealedMessages({
    send: async (m) => void sealed.push(Buffer.from(m)),
    receive: async () => null,
  });
  await out.protect(secrets);
  for (const text of ['one', 'two', '']) await out.send(Buffer.from(text));
  const taking = async (messages: readonly Buffer[]) => {
    const queue = [...messages];
    const port = new SealedMessages({ send: async () => {}, receive: async () => queue.shift() ?? null });
    await port.protect({ send: secrets.receive, receive: secrets.send });
    const texts: string[] = [];
    try {
      for (let m = await port.receive(); m; m = await port.receive()) texts.push(Buffer.from(m).toString());
    } catch (error) {
      texts.push(String(codeOf(error)));
    }
    return texts;
  };
  const [one, two, three] = sealed as [Buffer, Buffer, Buffer];
  expect(await taking(sealed)).toEqual(['one', 'two', '']);
  expect(await taking([one, one])).toEqual(['one', 'INTEGRITY_ERROR']);
  expect(await taking([two, one])).toEqual(['INTEGRITY_ERROR']);
  expect(await taking([one, three])).toEqual(['one', 'INTEGRITY_ERROR']);
  expect(await taking([one.subarray(1)])).toEqual(['INTEGRITY_ERROR']);
  expect(await taking([Buffer.alloc(5)])).toEqual(['INTEGRITY_ERROR']);
});

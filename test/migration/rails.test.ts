/** Rails at either end, without a wire: who is let in, who is not, and what a source does with fewer than it was granted. */
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/index.ts';
import { SourceGate } from '../../lib/migration/destination/source-gate.ts';
import { dialRails } from '../../lib/migration/source/rails.ts';
import {
  type Agreed,
  acceptRail,
  answerCapabilities,
  answerRail,
  railOf,
  requestCapabilities,
  requestRail,
} from '../../lib/protocol/capabilities.ts';
import type { IncomingConnection } from '../../lib/transport/connect.ts';
import type { Connection, Received } from '../../lib/transport/connection.ts';
import { PIECE } from '../support/small-vm.ts';

const OFFER = { pinAll: false, commit: true };
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

/** A connection that was let in; it says what the test makes it say. */
class FakeConnection {
  readonly end = new AbortController();
  tellsReasons = false;
  speak: () => void = () => {};
  failed = false;
  readonly #first = new Promise<Received>((resolve, reject) => {
    this.speak = () =>
      resolve({ message: { type: 'QEMU_FILE', bytes: PIECE.start }, bytes: PIECE.start } as Received);
    this.end.signal.addEventListener('abort', () => reject(this.end.signal.reason));
  });

  get ended(): AbortSignal {
    return this.end.signal;
  }

  async send(): Promise<void> {}

  receive({ signal }: { signal: AbortSignal }): Promise<Received> {
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
    return Promise.race([this.#first, aborted]);
  }

  async fail(): Promise<void> {
    this.failed = true;
  }
}

/** A peer that connects, and what becomes of it. */
class FakeIncoming {
  readonly connection = new FakeConnection();
  reply: Uint8Array | undefined;
  /** The connection that it became a rail of. */
  joined: unknown;
  refused = false;
  establish: () => void = () => {};
  readonly privateData: Uint8Array;
  readonly peerAddress: string;
  readonly #established: Promise<void>;

  constructor(privateData: Uint8Array, { slow = false, host = '192.0.2.1' } = {}) {
    this.privateData = privateData;
    this.peerAddress = `${host}:1`;
    this.#established = new Promise((resolve) => {
      this.establish = resolve;
    });
    if (!slow) this.establish();
  }

  async accept(reply: Uint8Array): Promise<Connection> {
    this.reply = reply;
    await this.#established;
    return this.connection as unknown as Connection;
  }

  async join(connection: unknown, reply: Uint8Array): Promise<void> {
    this.reply = reply;
    this.joined = connection;
  }

  async reject(): Promise<void> {
    this.refused = true;
  }
}

function gate(channels = 4): { gate: SourceGate; notices: string[] } {
  const notices: string[] = [];
  const answer = (data: Uint8Array) => answerCapabilities(data, { ...OFFER, channels });
  return {
    gate: new SourceGate({ answer, atOnce: 8, timeoutMs: 10_000, notice: (notice) => notices.push(notice) }),
    notices,
  };
}

function comes(to: SourceGate, incoming: FakeIncoming): FakeIncoming {
  to.come(incoming as unknown as IncomingConnection);
  return incoming;
}

const asksFor = (channels: number): Uint8Array => requestCapabilities({ ...OFFER, channels });

/** A source that has been let in, with the token that it was given. */
async function candidate(to: SourceGate, options = {}): Promise<{ source: FakeIncoming; token: bigint }> {
  const source = comes(to, new FakeIncoming(asksFor(4), options));
  await settled();
  return { source, token: railOf(source.reply as Uint8Array)?.token as bigint };
}

describe('a destination', () => {
  it('lets the rails that it granted in, as a part of their migration', async () => {
    const { gate: waiting, notices } = gate();
    const admitted = waiting.admit(new AbortController().signal);
    const { source, token } = await candidate(waiting);
    const rails = [3, 1, 2].map((index) => comes(waiting, new FakeIncoming(requestRail({ token, index }))));
    await settled();
    for (const rail of rails) expect(rail.joined).toBe(source.connection);
    acceptRail(rails[0]?.reply as Uint8Array, { token, index: 3 });
    source.connection.speak();
    expect((await admitted).connection).toBe(source.connection);
    expect((await admitted).agreed).toMatchObject({ channels: 4, token });
    expect(notices).toEqual([]);
    await waiting.close();
  });

  it('lets a rail wait for its migration’s first connection, which it may overtake', async () => {
    const { gate: waiting } = gate();
    void waiting.admit(new AbortController().signal).catch(() => {});
    const { source, token } = await candidate(waiting, { slow: true });
    const rail = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    await settled();
    expect([rail.joined, rail.refused]).toEqual([undefined, false]);
    source.establish();
    await settled();
    expect(rail.joined).toBe(source.connection);
    await waiting.close();
  });

  it.each<[string, (token: bigint) => { token: bigint; index: number }]>([
    ['a token that nobody was given', (token) => ({ token: token ^ 1n, index: 1 })],
    ['the index of the first connection', (token) => ({ token, index: 0 })],
    ['an index beyond what was granted', (token) => ({ token, index: 4 })],
    ['the last index there is', (token) => ({ token, index: 0xffff })],
  ])('refuses a rail with %s, and its migration goes on', async (_, rail) => {
    const { gate: waiting, notices } = gate();
    const admitted = waiting.admit(new AbortController().signal);
    const { source, token } = await candidate(waiting);
    const stranger = comes(waiting, new FakeIncoming(requestRail(rail(token)), { host: '198.51.100.7' }));
    await settled();
    expect([stranger.refused, stranger.joined]).toEqual([true, undefined]);
    expect(notices).toEqual([
      expect.stringMatching(/^refused 198\.51\.100\.7:1: a further channel was refused: /),
    ]);
    const honest = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    source.connection.speak();
    await admitted;
    expect(honest.joined).toBe(source.connection);
    expect(source.connection.failed).toBe(false);
    await waiting.close();
  });

  it('refuses an index that is there already', async () => {
    const { gate: waiting } = gate();
    void waiting.admit(new AbortController().signal).catch(() => {});
    const { token } = await candidate(waiting);
    const [first, second] = [0, 1].map(() =>
      comes(waiting, new FakeIncoming(requestRail({ token, index: 2 }))),
    );
    await settled();
    expect([first?.refused, second?.refused, second?.joined]).toEqual([false, true, undefined]);
    await waiting.close();
  });

  it('refuses a rail for a migration that has begun, and leaves that alone', async () => {
    const { gate: waiting } = gate();
    const admitted = waiting.admit(new AbortController().signal);
    const { source, token } = await candidate(waiting);
    source.connection.speak();
    await admitted;
    const late = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    await settled();
    expect([late.refused, source.connection.failed]).toEqual([true, false]);
    await waiting.close();
  });

  it('refuses the rails of a source that has failed, those that waited for it too', async () => {
    const { gate: waiting } = gate();
    void waiting.admit(new AbortController().signal).catch(() => {});
    const { source, token } = await candidate(waiting);
    source.connection.end.abort(new MigrationError('CONNECTION_LOST', 'negotiate', 'gone'));
    await settled();
    const late = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    await settled();
    expect(late.refused).toBe(true);
    await waiting.close();
  });

  it('does not take rails for strangers: however many ask, a source finds room', async () => {
    const { gate: waiting } = gate();
    const admitted = waiting.admit(new AbortController().signal);
    const asked = Array.from({ length: 1000 }, (_, i) => ({ token: BigInt(i), index: 1 }));
    const strangers = asked.map((rail) => comes(waiting, new FakeIncoming(requestRail(rail))));
    const { source } = await candidate(waiting);
    source.connection.speak();
    await admitted;
    expect(strangers.every(({ refused }) => refused)).toBe(true);
    await waiting.close();
  });
});

/** A connection whose rails end as the test says: by index, `undefined` is a success. */
function dialing(failures: Record<number, MigrationError | Uint8Array>) {
  const dialed: number[] = [];
  const ended = new AbortController();
  const connection = {
    ended: ended.signal,
    connectRail: async (_: unknown, privateData: Uint8Array) => {
      const rail = railOf(privateData);
      if (!rail) throw new Error('this is no rail');
      dialed.push(rail.index);
      await settled();
      const failure = failures[rail.index];
      if (failure instanceof MigrationError) throw failure;
      return failure ?? answerRail(rail);
    },
  } as unknown as Connection;
  return { connection, dialed, ended };
}

function settings(agreed: Pick<Agreed, 'channels' | 'token'>) {
  const notices: string[] = [];
  const cancel = new AbortController();
  const endpoint = { host: '192.0.2.1', port: 4444 };
  const notice = (text: string) => void notices.push(text);
  return {
    notices,
    cancel,
    all: { endpoint, agreed, connectTimeoutMs: 1000, signal: cancel.signal, notice },
  };
}

describe('a source', () => {
  it('dials every rail that it was granted, side by side, and none without a token', async () => {
    const { connection, dialed } = dialing({});
    await dialRails(connection, settings({ channels: 1 }).all);
    expect(dialed).toEqual([]);
    const { all, notices } = settings({ channels: 4, token: 7n });
    const done = dialRails(connection, all);
    expect(dialed).toEqual([1, 2, 3]);
    await done;
    expect(notices).toEqual([]);
  });

  it('goes on with those that it has, and says so', async () => {
    const { connection } = dialing({
      1: new MigrationError('TIMEOUT', 'connect', 'nobody answered'),
      3: answerRail({ token: 8n, index: 3 }),
    });
    const { all, notices } = settings({ channels: 4, token: 7n });
    await dialRails(connection, all);
    expect(notices).toEqual([
      'only 2 of 4 channels could be made, and the migration goes on with those: nobody answered',
    ]);
  });

  it('does not go on when it was cancelled meanwhile, or its first connection has ended', async () => {
    const failure = new MigrationError('CANCELLED', 'connect', 'enough');
    for (const which of ['cancel', 'ended'] as const) {
      const scene = dialing({ 1: failure });
      const { all, cancel } = settings({ channels: 2, token: 7n });
      const done = dialRails(scene.connection, all);
      (which === 'cancel' ? cancel : scene.ended).abort(failure);
      await expect(done).rejects.toBe(failure);
    }
  });
});

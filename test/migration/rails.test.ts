/** Rails at either end, without a wire: who is let in, who is not, and what a source does with fewer than it was granted. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MigrationError } from '../../lib/index.ts';
import { type AdmittedSource, SourceGate } from '../../lib/migration/destination/source-gate.ts';
import { dialRails } from '../../lib/migration/source/rails.ts';
import { type Agreed, answerCapabilities, requestCapabilities } from '../../lib/protocol/capabilities.ts';
import { acceptRail, answerRail, railOf, requestRail } from '../../lib/protocol/rail-request.ts';
import { rejectedFor } from '../../lib/protocol/rejection.ts';
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

  async reject(data: Uint8Array): Promise<void> {
    this.reply = data;
    this.refused = true;
  }
}

function gate(
  channels = 4,
  full?: () => MigrationError | undefined,
): { gate: SourceGate; notices: string[] } {
  const notices: string[] = [];
  const answer = (data: Uint8Array) => answerCapabilities(data, { ...OFFER, channels });
  return {
    gate: new SourceGate({
      answer,
      atOnce: 8,
      timeoutMs: 10_000,
      ...(full && { full }),
      notice: (notice) => notices.push(notice),
    }),
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

/** A source that has shown that it is one. */
async function admitted(to: SourceGate) {
  const admission = to.admit(new AbortController().signal);
  const { source, token } = await candidate(to);
  source.connection.speak();
  const { agreed, rails } = await admission;
  return { source, token, agreed, rails };
}

describe('a destination', () => {
  it('lets the rails that it granted to its source in, until all are there', async () => {
    const { gate: waiting, notices } = gate();
    const { source, token, agreed, rails: pass } = await admitted(waiting);
    let over = false;
    void pass.over.then(() => {
      over = true;
    });
    const rails = [3, 1].map((index) => comes(waiting, new FakeIncoming(requestRail({ token, index }))));
    await settled();
    expect(over).toBe(false);
    rails.push(comes(waiting, new FakeIncoming(requestRail({ token, index: 2 }))));
    await settled();
    for (const rail of rails) expect(rail.joined).toBe(source.connection);
    acceptRail(rails[0]?.reply as Uint8Array, { token, index: 3 });
    expect(agreed).toMatchObject({ channels: 4, token });
    expect([over, notices]).toEqual([true, []]);
    await waiting.close();
  });

  it('lets no rail in before the source has shown that it is one, and says so', async () => {
    const { gate: waiting, notices } = gate();
    void waiting.admit(new AbortController().signal).catch(() => {});
    const { source, token } = await candidate(waiting);
    const early = comes(
      waiting,
      new FakeIncoming(requestRail({ token, index: 1 }), { host: '198.51.100.7' }),
    );
    await settled();
    expect([early.refused, early.joined, source.connection.failed]).toEqual([true, undefined, false]);
    expect(notices).toEqual([
      expect.stringMatching(/^refused 198\.51\.100\.7:1: a further channel was refused: /),
    ]);
    await waiting.close();
  });

  it('lets nobody in but the rails of its source, not those of others that it answered', async () => {
    const { gate: waiting } = gate();
    const admission = waiting.admit(new AbortController().signal);
    const [source, other] = [await candidate(waiting), await candidate(waiting)];
    source.source.connection.speak();
    await admission;
    const strangers = [asksFor(4), requestRail({ token: other.token, index: 1 })];
    const came = strangers.map((data) => comes(waiting, new FakeIncoming(data)));
    const own = comes(waiting, new FakeIncoming(requestRail({ token: source.token, index: 1 })));
    await settled();
    expect(came.map(({ refused, joined }) => [refused, joined])).toEqual([
      [true, undefined],
      [true, undefined],
    ]);
    expect(own.joined).toBe(source.source.connection);
    await waiting.close();
  });

  it.each<[string, (token: bigint) => { token: bigint; index: number }]>([
    ['a token that nobody was given', (token) => ({ token: token ^ 1n, index: 1 })],
    ['the index of the first connection', (token) => ({ token, index: 0 })],
    ['an index beyond what was granted', (token) => ({ token, index: 4 })],
    ['the last index there is', (token) => ({ token, index: 0xffff })],
  ])('refuses a rail with %s, and its migration goes on', async (_, rail) => {
    const { gate: waiting } = gate();
    const { source, token } = await admitted(waiting);
    const stranger = comes(waiting, new FakeIncoming(requestRail(rail(token))));
    await settled();
    expect([stranger.refused, stranger.joined]).toEqual([true, undefined]);
    const honest = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    await settled();
    expect(honest.joined).toBe(source.connection);
    expect(source.connection.failed).toBe(false);
    await waiting.close();
  });

  it('refuses an index that is there already', async () => {
    const { gate: waiting } = gate();
    const { token } = await admitted(waiting);
    const [first, second] = [0, 1].map(() =>
      comes(waiting, new FakeIncoming(requestRail({ token, index: 2 }))),
    );
    await settled();
    expect([first?.refused, second?.refused, second?.joined]).toEqual([false, true, undefined]);
    await waiting.close();
  });

  it('refuses a rail when RAM moves, and leaves the migration alone', async () => {
    const { gate: waiting } = gate();
    const { source, token, rails } = await admitted(waiting);
    rails.close();
    await rails.over;
    const late = comes(waiting, new FakeIncoming(requestRail({ token, index: 1 })));
    await settled();
    expect([late.refused, source.connection.failed]).toEqual([true, false]);
    await waiting.close();
  });

  it('lets no rail in that its source was not granted', async () => {
    const { gate: waiting } = gate(1);
    await (await admitted(waiting)).rails.over;
    await waiting.close();
  });

  it('of many sources lets each rail in to its own, and the end of one leaves the rails of the others alone', async () => {
    const { gate: waiting } = gate();
    const admissions: AdmittedSource[] = [];
    waiting.open((source) => admissions.push(source));
    const sources = [await candidate(waiting), await candidate(waiting), await candidate(waiting)];
    for (const { source } of sources) source.connection.speak();
    await settled();
    const [first, second, third] = sources;
    admissions.find(({ connection }) => (connection as unknown) === second?.source.connection)?.rails.close();
    const rails = [third, second, first].map((one) =>
      comes(waiting, new FakeIncoming(requestRail({ token: one?.token as bigint, index: 1 }))),
    );
    await settled();
    expect(rails.map(({ joined }) => joined)).toEqual([
      third?.source.connection,
      undefined,
      first?.source.connection,
    ]);
    expect(rails.map(({ refused }) => refused)).toEqual([false, true, false]);
    await waiting.close();
  });

  it('refuses sources while it is full, before they are let in and when they have spoken, and rails are let in', async () => {
    const admissions: AdmittedSource[] = [];
    const full = (): MigrationError | undefined =>
      admissions.length === 0 ? undefined : new MigrationError('BUSY', 'negotiate', 'one is under way');
    const { gate: waiting } = gate(4, full);
    waiting.open((source) => admissions.push(source));
    const [source, other] = [await candidate(waiting), await candidate(waiting)];
    source.source.connection.speak();
    await settled();
    other.source.connection.speak();
    const late = comes(waiting, new FakeIncoming(asksFor(4)));
    const rail = comes(waiting, new FakeIncoming(requestRail({ token: source.token, index: 1 })));
    await settled();
    expect(admissions.map(({ connection }) => connection)).toEqual([source.source.connection]);
    expect([other.source.connection.failed, late.refused]).toEqual([true, true]);
    expect(rejectedFor(late.reply as Uint8Array, false, undefined)).toMatchObject({ code: 'BUSY' });
    expect(rail.joined).toBe(source.source.connection);
    await waiting.close();
  });

  it('does not take rails for strangers: however many ask, a source finds room', async () => {
    const { gate: waiting } = gate();
    const admission = waiting.admit(new AbortController().signal);
    const asked = Array.from({ length: 1000 }, (_, i) => ({ token: BigInt(i), index: 1 }));
    const strangers = asked.map((rail) => comes(waiting, new FakeIncoming(requestRail(rail))));
    const { source } = await candidate(waiting);
    source.connection.speak();
    await admission;
    expect(strangers.every(({ refused }) => refused)).toBe(true);
    await waiting.close();
  });
});

/** A connection whose rails end as the test says: by index, `undefined` is a success, and a promise one that takes its time. */
function dialing(failures: Record<number, MigrationError | Uint8Array | Promise<never>>) {
  const dialed: number[] = [];
  const ended = new AbortController();
  const endpoints: unknown[] = [];
  const connection = {
    ended: ended.signal,
    info: { peerAddress: '[2001:db8::7]:4444' },
    rails: {
      connect: async (endpoint: unknown, privateData: Uint8Array) => {
        endpoints.push(endpoint);
        const rail = railOf(privateData);
        if (!rail) throw new Error('this is no rail');
        dialed.push(rail.index);
        await settled();
        const failure = await failures[rail.index];
        if (failure instanceof MigrationError) throw failure;
        return failure ?? answerRail(rail);
      },
    },
  } as unknown as Connection;
  return { connection, dialed, endpoints, ended };
}

function settings(agreed: Pick<Agreed, 'channels' | 'token'>) {
  const notices: string[] = [];
  const cancel = new AbortController();
  const endpoint = { host: '192.0.2.1', port: 4444 };
  const notice = (text: string) => void notices.push(text);
  return {
    notices,
    cancel,
    all: { endpoint, agreed, timeoutMs: 1000, signal: cancel.signal, notice },
  };
}

afterEach(() => void vi.useRealTimers());

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
      3: new MigrationError('REJECTED', 'connect', 'not you'),
    });
    const { all, notices } = settings({ channels: 4, token: 7n });
    await dialRails(connection, all);
    expect(notices).toEqual([
      'only 2 of 4 channels could be made, and the migration goes on with those: nobody answered',
    ]);
  });

  it('carries nothing over a rail that somebody else has answered', async () => {
    for (const reply of [
      answerRail({ token: 8n, index: 1 }),
      answerRail({ token: 7n, index: 2 }),
      Buffer.of(),
    ]) {
      const { all, notices } = settings({ channels: 4, token: 7n });
      await expect(dialRails(dialing({ 1: reply }).connection, all)).rejects.toMatchObject({
        code: 'PROTOCOL_ERROR',
      });
      expect(notices).toEqual([]);
    }
  });

  it('does not go on when it is not known of a rail whether it comes up', async () => {
    vi.useFakeTimers();
    const { all, notices } = settings({ channels: 3, token: 7n });
    const done = dialRails(dialing({ 1: new Promise<never>(() => {}) }).connection, all);
    const told = expect(done).rejects.toMatchObject({ code: 'TIMEOUT', phase: 'setup' });
    await vi.advanceTimersByTimeAsync(all.timeoutMs + 2_000);
    await told;
    expect(notices).toEqual([]);
  });

  it('dials whoever has answered first, not a name again', async () => {
    const { connection, endpoints } = dialing({});
    const { all } = settings({ channels: 2, token: 7n });
    await dialRails(connection, { ...all, endpoint: { host: 'host.example', port: 4444 } });
    expect(endpoints).toEqual([{ host: '2001:db8::7', port: 4444 }]);
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

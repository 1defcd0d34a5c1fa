/**
 * Turn-taking (qemu-rdma-protocol, section 3), in one place. The destination says READY each time it is about to receive; one READY
 * allows the source one message. Answers need no READY.
 */
import { MigrationError } from '../errors.ts';
import type { SentDigest } from '../protocol/commit.ts';
import type { ControlMessage } from '../protocol/control.ts';
import type { Connection, Received } from './connection.ts';

export type MessageOf<T extends ControlMessage['type']> = ControlMessage & { readonly type: T };

export interface TurnLimits {
  /** The longest wait for the peer's next message. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What control messages have cost a source so far. Only ever grows. */
export interface TurnCosts {
  /** Messages it has sent. */
  readonly messages: number;
  /** Milliseconds in which it had something to say and had no READY. */
  readonly readyMs: number;
  /** Milliseconds from a request for keys to its answer. */
  readonly keyMs: number;
}

/** The source's side: sends only with a READY in hand. Not for concurrent callers: one message at a time. */
export class SourceTurns {
  readonly #connection: Connection;
  readonly #limits: TurnLimits;
  readonly #account: SentDigest;
  #ready = false;
  /** Messages under way, with their answers. */
  #talking = 0;
  #spokeAt = performance.now();
  #messages = 0;
  #readyMs = 0;
  #keyMs = 0;
  /** An ALIVE under way; never rejects. */
  #alive: Promise<void> | undefined;

  /** `account` is kept of every message sent, but COMMIT. */
  constructor(connection: Connection, limits: TurnLimits, account: SentDigest) {
    this.#connection = connection;
    this.#limits = limits;
    this.#account = account;
  }

  /** Waits until the destination is about to receive: then it has dealt with everything sent before. */
  ready(): Promise<void> {
    return this.#talk(() => this.#takeReady());
  }

  get costs(): TurnCosts {
    return { messages: this.#messages, readyMs: this.#readyMs, keyMs: this.#keyMs };
  }

  async #takeReady(): Promise<void> {
    if (this.#ready) return;
    const began = performance.now();
    await this.#receive('READY');
    this.#readyMs += performance.now() - began;
    this.#ready = true;
  }

  /** Sends one message in its turn. */
  send(message: ControlMessage, limits = this.#limits): Promise<void> {
    return this.#talk(() => this.#say(message, limits));
  }

  /**
   * Sends ALIVE, or what else may be left out, if for `quietMs` nothing was sent and the destination waits for a message. Else there is no
   * need to: it is heard from soon, or has to say something itself. Beside all other calls; never rejects.
   */
  alive(quietMs: number, message: ControlMessage = { type: 'ALIVE' }): Promise<void> {
    const idle = this.#talking === 0 && performance.now() - this.#spokeAt >= quietMs;
    const allowed = this.#ready || this.#connection.waiting?.type === 'READY';
    if (!idle || !allowed || this.#alive) return Promise.resolve();
    this.#alive = this.#say(message, this.#limits)
      .catch(() => {}) // the next message meets the same failure and tells of it
      .finally(() => {
        this.#alive = undefined;
      });
    return this.#alive;
  }

  async #say(message: ControlMessage, limits: TurnLimits, posted = (): void => {}): Promise<void> {
    await this.#takeReady();
    this.#ready = false;
    await this.#connection.send(message, limits, (bytes) => {
      posted();
      this.#messages += 1;
      if (message.type !== 'COMMIT') this.#account.add(bytes, message);
    });
    this.#spokeAt = performance.now();
  }

  /** Nothing else may be said meanwhile. */
  async #talk<T>(talk: () => Promise<T>): Promise<T> {
    this.#talking += 1;
    try {
      await this.#alive;
      return await talk();
    } finally {
      this.#talking -= 1;
    }
  }

  /**
   * Sends a request in its turn and takes its answer, within other limits than the usual ones where these are given. `posted`: the peer may
   * have it from then on; what fails before has asked for nothing.
   */
  request<T extends ControlMessage['type']>(
    message: ControlMessage,
    answer: T,
    limits = this.#limits,
    posted?: () => void,
  ): Promise<MessageOf<T>> {
    return this.#talk(async () => {
      await this.#say(message, limits, posted);
      const began = performance.now();
      const received = await this.#receive(answer, limits);
      if (answer === 'REGISTER_RESULT') this.#keyMs += performance.now() - began;
      return received;
    });
  }

  async #receive<T extends ControlMessage['type']>(type: T, limits = this.#limits): Promise<MessageOf<T>> {
    const { message } = await this.#connection.receive({
      ...limits,
      what: `the destination's ${type}`,
      waitingFor: type === 'COMMITTED' ? 'peer-commit' : 'peer',
    });
    return expectType(message, type, this.#connection);
  }
}

/** The destination's side: gives one turn for every message it takes. */
export class DestinationTurns {
  readonly #connection: Connection;
  readonly #limits: TurnLimits;
  readonly #account: SentDigest;
  #first: Received | undefined;

  /** `account` is kept of every message received, but COMMIT. `first`: a message that came before, in a turn given to it. */
  constructor(connection: Connection, limits: TurnLimits, account: SentDigest, first?: Received) {
    this.#connection = connection;
    this.#limits = limits;
    this.#account = account;
    this.#first = first;
  }

  /** Says READY and takes the message that it allows, which may take `timeoutMs` instead of what is usual. */
  async next(timeoutMs = this.#limits.timeoutMs): Promise<ControlMessage> {
    const { message, bytes } = await this.#receive(timeoutMs);
    if (message.type !== 'COMMIT') this.#account.add(bytes, message);
    return message;
  }

  async #receive(timeoutMs: number): Promise<Received> {
    const first = this.#first;
    this.#first = undefined;
    if (first) return first;
    await this.#connection.send({ type: 'READY' }, this.#limits);
    return this.#connection.receive({ ...this.#limits, timeoutMs, what: 'the source’s next message' });
  }

  /** Answers a request. */
  async answer(message: ControlMessage): Promise<void> {
    await this.#connection.send(message, this.#limits);
  }

  /** Answers also when the migration has been cancelled meanwhile: what was decided before is told all the same, within the usual time. */
  async answerAnyway(message: ControlMessage): Promise<void> {
    const { timeoutMs } = this.#limits;
    await this.#connection.send(message, { timeoutMs });
  }
}

/** @throws MigrationError PROTOCOL_ERROR that names the message and what was due */
export function expectType<T extends ControlMessage['type']>(
  message: ControlMessage,
  type: T,
  connection: Connection,
): MessageOf<T> {
  if (message.type === type) return message as MessageOf<T>;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    connection.phase,
    `the peer sent ${message.type} where ${type} was due`,
    { details: { received: message.type, expected: type } },
  );
}

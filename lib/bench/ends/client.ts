/** The end that measures. */
import { MigrationError } from '../../errors.ts';
import { formatRdmaUri, parseRdmaUri } from '../../protocol/uri.ts';
import {
  type ChosenProvider,
  type Domain,
  type Endpoint,
  openDomain,
  type ProviderChoice,
  type QueuePair,
} from '../../verbs/index.ts';
import { BufferMemory, Buffers } from '../measure/buffers.ts';
import { decodeAnswer, encodeRequest } from '../wire/codec.ts';
import { decodeWelcome, encodeHello, VERSION } from '../wire/hello.ts';
import type { Answer, AnswerType, Machine, Place, Request, Shape } from '../wire/messages.ts';
import { Channel } from './channel.ts';

/** Registering with a device takes its time. */
const ANSWER_MS = 60_000;
/** Often enough for the other end, which drops a client that is silent. */
const PRESENT_MS = 30_000;

export interface ConnectBench {
  readonly provider?: ProviderChoice;
  readonly signal?: AbortSignal;
}

type AnswerOf<T extends AnswerType> = Extract<Answer, { type: T }>;
type Queues = { readonly maxSendWr: number; readonly maxRecvWr: number };

/** Data queue pairs that are connected, with what works on each. */
export interface Opened<T> {
  readonly lanes: readonly T[];
  /** Of a connection, such as `MPA revision 2, CRC32C off`. */
  readonly detail: string;
}

export class BenchClient implements AsyncDisposable {
  readonly #domain: Domain;
  readonly #channel: Channel;
  readonly #endpoint: Endpoint;
  readonly #token: bigint;
  readonly #signal: AbortSignal | undefined;
  readonly #memory = new BufferMemory();
  #asked = performance.now();

  private constructor(
    domain: Domain,
    channel: Channel,
    endpoint: Endpoint,
    token: bigint,
    signal: AbortSignal | undefined,
  ) {
    this.#domain = domain;
    this.#channel = channel;
    this.#endpoint = endpoint;
    this.#token = token;
    this.#signal = signal;
  }

  /** @throws MigrationError INVALID_URI, CONNECTION_REFUSED, REJECTED (busy), VERSION_MISMATCH, PROTOCOL_ERROR (no benchmark), TIMEOUT, CANCELLED */
  static async connect(uri: string, { provider = 'auto', signal }: ConnectBench): Promise<BenchClient> {
    const endpoint = parseRdmaUri(uri);
    const domain = await openDomain({ provider, peer: endpoint });
    try {
      const channel = await Channel.open(domain);
      const privateData = encodeHello({ version: VERSION, kind: 'control', index: 0, token: 0n });
      const reply = await channel.queuePair.connect(endpoint, { privateData, ...(signal && { signal }) });
      return new BenchClient(domain, channel, endpoint, welcomed(reply), signal);
    } catch (error) {
      await domain.close();
      throw error;
    }
  }

  get provider(): ChosenProvider {
    return this.#domain.provider;
  }

  who(): Promise<Machine> {
    return this.ask({ type: 'who' }, 'machine');
  }

  /** Where a migration's destination listens. */
  uriOf(port: number): string {
    return formatRdmaUri({ host: this.#endpoint.host, port });
  }

  /** @throws MigrationError PEER_ERROR (with its words), PROTOCOL_ERROR, TIMEOUT, CANCELLED, what ended the connection */
  async ask<T extends AnswerType>(request: Request, expected: T): Promise<AnswerOf<T>> {
    this.#asked = performance.now();
    this.#channel.send(encodeRequest(request));
    const waiting = { timeoutMs: ANSWER_MS, signal: this.#signal, what: `the answer to ${request.type}` };
    const answer = decodeAnswer(await this.#channel.must(waiting));
    if (answer.type === expected) return answer as AnswerOf<T>;
    if (answer.type === 'failed') throw peerError(answer.reason);
    throw new MigrationError(
      'PROTOCOL_ERROR',
      'verbs',
      `the other end of the benchmark answered ${request.type} with ${answer.type}`,
    );
  }

  /** For whoever works on something of its own for long, between requests: call it every now and then. @throws as {@link ask} */
  async stayPresent(): Promise<void> {
    if (performance.now() - this.#asked >= PRESENT_MS) await this.who();
  }

  /**
   * Uses buffers and data queue pairs at both ends, and closes them. `make`: what works on a queue pair, before it is connected. When `use`
   * fails the other end keeps its own until this client leaves: there is nothing more to be asked of it.
   */
  async opened<T, R>(
    shape: Shape & { readonly crc: boolean },
    queues: Queues,
    make: (queuePair: QueuePair, buffers: Buffers, index: number, peer: Place) => T,
    use: (opened: Opened<T>) => Promise<R>,
  ): Promise<R> {
    const buffers = await Buffers.register(this.#domain, this.#memory, shape);
    const queuePairs: QueuePair[] = [];
    let result: R;
    try {
      const { place } = await this.ask({ type: 'open', ...shape, place: buffers.place }, 'opened');
      checkPlace(place, buffers.place);
      const lanes: T[] = [];
      for (let index = 0; index < shape.queuePairs; index++) {
        const queuePair = this.#domain.createQueuePair({ crc: shape.crc, ...queues });
        queuePairs.push(queuePair);
        lanes.push(make(queuePair, buffers, index, place));
        await this.#join(queuePair, index);
      }
      const { detail = '' } = queuePairs[0]?.info ?? {};
      result = await use({ lanes, detail });
    } finally {
      await Promise.all(queuePairs.map((queuePair) => queuePair.close()));
      await buffers.close();
    }
    await this.ask({ type: 'close' }, 'closed');
    return result;
  }

  /** Leaves in good order. */
  async close(): Promise<void> {
    const { queuePair } = this.#channel;
    if (queuePair.state === 'RTS') await queuePair.disconnect();
    await this.#channel.close();
    await this.#domain.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #join(queuePair: QueuePair, index: number): Promise<void> {
    const privateData = encodeHello({ version: VERSION, kind: 'data', index, token: this.#token });
    await queuePair.connect(this.#endpoint, { privateData, ...(this.#signal && { signal: this.#signal }) });
  }
}

function welcomed(reply: Uint8Array): bigint {
  const { version, status, token } = decodeWelcome(reply);
  if (status === 'busy')
    throw new MigrationError(
      'REJECTED',
      'connect',
      'the other end of the benchmark serves another client: try again when that has left',
    );
  if (status === 'version' || version !== VERSION)
    throw new MigrationError(
      'VERSION_MISMATCH',
      'connect',
      `the other end speaks version ${version} of the benchmark and this one version ${VERSION}: run the same rdma-migrate at both`,
    );
  return token;
}

function checkPlace(theirs: Place, ours: Place): void {
  if (theirs.length >= ours.length) return;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'verbs',
    `the other end of the benchmark gives ${theirs.length} bytes of buffers, and ${ours.length} were asked for`,
  );
}

function peerError({ code, message }: { readonly code?: string; readonly message: string }): MigrationError {
  const named = code === undefined ? '' : ` (${code})`;
  return new MigrationError(
    'PEER_ERROR',
    'verbs',
    `the other end of the benchmark failed: ${message}${named}`,
  );
}

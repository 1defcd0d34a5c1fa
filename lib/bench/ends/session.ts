/** The listening end, for one client: a state machine over its requests. */
import { MigrationError, toMigrationError } from '../../errors.ts';
import { MigrationDestination } from '../../migration/destination/destination.ts';
import { formatRdmaUri, parseRdmaUri } from '../../protocol/uri.ts';
import type { ConnectionRequest, Domain, ProviderName, QueuePair } from '../../verbs/index.ts';
import { FreshTarget } from '../measure/bench-vm.ts';
import { type BufferMemory, Buffers } from '../measure/buffers.ts';
import { CostMeter } from '../measure/cost.ts';
import { describeMachine } from '../measure/machine.ts';
import { Responder, responderQueues } from '../measure/responder.ts';
import { decodeRequest, encodeAnswer } from '../wire/codec.ts';
import { encodeWelcome, type Hello, VERSION } from '../wire/hello.ts';
import type { Answer, Request } from '../wire/messages.ts';
import type { Channel } from './channel.ts';

/** Who is a client asks at once: others are kept out until it has. */
const FIRST_REQUEST_MS = 10_000;
/** How long a client may be silent between requests: it registers, connects and warms up meanwhile, but shows its presence while it makes a VM. */
const SILENCE_MS = 150_000;
const MIGRATION_ENDS_MS = 60_000;

export interface SessionParts {
  readonly domain: Domain;
  readonly channel: Channel;
  readonly token: bigint;
  readonly provider: ProviderName;
  /** Where migrations are waited for. */
  readonly host: string;
  /** 0: any free one. */
  readonly migrationPort: number;
  /** For one measurement after the other. */
  readonly memory: BufferMemory;
  /** Bytes of RAM that a migration may have, as of now. */
  readonly maxRam: () => number;
}

type Open = Extract<Request, { type: 'open' }>;
type Migrate = Extract<Request, { type: 'migrate' }>;

export class Session {
  readonly #parts: SessionParts;
  readonly #abort = new AbortController();
  #open: OpenPoint | undefined;
  #migration: OpenMigration | undefined;
  #meter: CostMeter | undefined;
  #silenceMs = FIRST_REQUEST_MS;
  #asked = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  get token(): bigint {
    return this.#parts.token;
  }

  /** Whether a request has come. */
  get asked(): boolean {
    return this.#asked;
  }

  /** Until the client leaves. @throws MigrationError PROTOCOL_ERROR, TIMEOUT, CANCELLED, what ended the connection */
  async run(signal: AbortSignal): Promise<void> {
    const { channel } = this.#parts;
    // whatever is waited for, a migration too, ends with the client
    void channel.queuePair.closed.then(() => this.#abort.abort());
    try {
      for (;;) {
        const waiting = { timeoutMs: this.#silenceMs, signal, what: "the benchmark's next request" };
        const bytes = await channel.next(waiting);
        if (bytes === undefined) return;
        this.#asked = true;
        this.#silenceMs = SILENCE_MS;
        channel.send(encodeAnswer(await this.#answered(bytes, signal)));
      }
    } finally {
      this.#abort.abort();
      await this.#close();
    }
  }

  /** A data queue pair of this client. Answers the request. */
  async join(request: ConnectionRequest, hello: Hello): Promise<void> {
    if (this.#open === undefined || this.#meter !== undefined) return request.reject();
    await this.#open.join(request, hello, this.#abort.signal);
  }

  /** What can go wrong here is told to the client, which decides; what the client did wrong ends the session. */
  async #answered(bytes: Uint8Array, signal: AbortSignal): Promise<Answer> {
    const request = decodeRequest(bytes);
    try {
      return await this.#answer(request, signal);
    } catch (thrown) {
      const reason = toMigrationError(thrown, 'verbs');
      if (reason.code === 'PROTOCOL_ERROR' || signal.aborted) throw reason;
      await this.#close();
      return { type: 'failed', reason };
    }
  }

  async #answer(request: Request, signal: AbortSignal): Promise<Answer> {
    switch (request.type) {
      case 'who':
        return { type: 'machine', ...(await describeMachine()) };
      case 'open':
        return this.#opened(request);
      case 'migrate':
        return this.#listening(request, signal);
      case 'begin':
        if (this.#open === undefined || this.#meter !== undefined) throw outOfTurn('begin');
        this.#silenceMs = request.mostMs + SILENCE_MS;
        this.#meter = new CostMeter();
        return { type: 'begun' };
      case 'finish':
        return this.#finished();
      case 'close':
        if (this.#open === undefined) throw outOfTurn('close');
        await this.#close();
        return { type: 'closed' };
    }
  }

  async #opened(request: Open): Promise<Answer> {
    if (this.#open !== undefined || this.#migration !== undefined) throw outOfTurn('open');
    this.#open = await OpenPoint.make(this.#parts, request);
    return { type: 'opened', place: this.#open.buffers.place };
  }

  async #listening(request: Migrate, signal: AbortSignal): Promise<Answer> {
    if (this.#open !== undefined || this.#migration !== undefined) throw outOfTurn('migrate');
    checkRam(request.ramBytes, this.#parts.maxRam());
    this.#migration = await OpenMigration.listen(
      this.#parts,
      request,
      AbortSignal.any([signal, this.#abort.signal]),
    );
    this.#silenceMs = request.mostMs + SILENCE_MS;
    this.#meter = new CostMeter();
    return { type: 'listening', port: this.#migration.port };
  }

  async #finished(): Promise<Answer> {
    const meter = this.#meter;
    if (meter === undefined) throw outOfTurn('finish');
    await this.#migration?.received;
    const cost = meter.read();
    this.#meter = undefined;
    await this.#migration?.close();
    this.#migration = undefined;
    return { type: 'finished', ...cost };
  }

  async #close(): Promise<void> {
    const [open, migration] = [this.#open, this.#migration];
    this.#open = undefined;
    this.#migration = undefined;
    this.#meter = undefined;
    await open?.close();
    await migration?.close();
  }
}

/** Buffers and data queue pairs of what is measured now. */
class OpenPoint {
  readonly buffers: Buffers;
  readonly #domain: Domain;
  readonly #request: Open;
  readonly #joined = new Map<number, QueuePair>();
  readonly #responders: Responder[] = [];

  private constructor(domain: Domain, request: Open, buffers: Buffers) {
    this.#domain = domain;
    this.#request = request;
    this.buffers = buffers;
  }

  static async make({ domain, memory }: SessionParts, request: Open): Promise<OpenPoint> {
    return new OpenPoint(domain, request, await Buffers.register(domain, memory, request));
  }

  async join(request: ConnectionRequest, { index }: Hello, signal: AbortSignal): Promise<void> {
    if (index >= this.#request.queuePairs || this.#joined.has(index)) return request.reject();
    const { crc, place } = this.#request;
    const queuePair = this.#domain.createQueuePair({ crc, ...responderQueues(this.#request) });
    this.#joined.set(index, queuePair);
    this.#responders.push(new Responder(queuePair, this.buffers, this.#request, index, place));
    const privateData = encodeWelcome({ version: VERSION, status: 'welcome', token: 0n });
    await queuePair.accept(request, { privateData, signal });
  }

  async close(): Promise<void> {
    for (const responder of this.#responders) responder.stop();
    await Promise.all([...this.#joined.values()].map((queuePair) => queuePair.close()));
    await this.buffers.close();
  }
}

class OpenMigration {
  /** Settles when the migration has ended. */
  readonly received: Promise<unknown>;
  readonly #destination: MigrationDestination;
  readonly #target: FreshTarget;

  private constructor(destination: MigrationDestination, target: FreshTarget, signal: AbortSignal) {
    this.#destination = destination;
    this.#target = target;
    this.received = destination.receive({ signal });
    this.received.catch(() => undefined); // `finish` may not come
  }

  static async listen(
    { host, migrationPort, provider }: SessionParts,
    { ramBytes, crc, channels, mostMs }: Migrate,
    signal: AbortSignal,
  ): Promise<OpenMigration> {
    const target = new FreshTarget(ramBytes);
    const destination = await MigrationDestination.listen(
      formatRdmaUri({ host, port: migrationPort }),
      target,
      {
        ...{ provider, crc, commit: 'require', totalTimeoutMs: mostMs + MIGRATION_ENDS_MS },
        ...(channels > 0 && { channels }),
      },
    );
    return new OpenMigration(destination, target, signal);
  }

  get port(): number {
    return parseRdmaUri(this.#destination.uri).port;
  }

  async close(): Promise<void> {
    await this.#destination.close();
    await this.received.catch(() => undefined);
    await this.#target.close();
  }
}

/** @throws MigrationError OUT_OF_MEMORY */
function checkRam(needed: number, limit: number): void {
  if (needed <= limit) return;
  throw new MigrationError(
    'OUT_OF_MEMORY',
    'setup',
    `a VM of ${needed} bytes was asked for, and this end gives ${limit} bytes of RAM at most: use a smaller --ram, or a larger --max-ram where it listens`,
    { details: { needed, limit } },
  );
}

function outOfTurn(what: string): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'verbs',
    `the other end of the benchmark broke its rules: ${what} out of turn`,
  );
}

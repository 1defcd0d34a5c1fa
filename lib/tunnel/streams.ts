/** The streams of one end of a tunnel: each from its beginning to its end, all of them until the end's own. */
import { setMaxListeners } from 'node:events';
import { MigrationError, toMigrationError } from '../errors.ts';
import type { NativeTunnelStream } from '../native/tunnel.ts';
import { unlessAborted } from '../transport/wait.ts';
import type { Link } from './link.ts';
import type { TunnelEvents } from './options.ts';
import type { Ring } from './ring.ts';
import type { LocalEnd } from './sockets.ts';

/** At one end, those that are being opened included. */
export const MOST_STREAMS = 64;
/** A sign of life at least so often, and not more often than this, however short the peer's patience is. */
const ALIVE_MS = { most: 5_000, least: 20 } as const;

/** Ready: both rings are known. */
export interface ReadyStream {
  readonly link: Link;
  readonly stream: NativeTunnelStream;
  readonly ring: Ring;
  readonly local: LocalEnd;
}

export interface StreamsSettings {
  readonly once: boolean;
  /** Anybody may try to open a stream: one that does not begin is no failure of this end. */
  readonly strangers: boolean;
  readonly silenceMs: number;
}

export class Streams {
  readonly #settings: StreamsSettings;
  readonly #events: TunnelEvents;
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #over: Promise<void>;
  #settle: (failure?: MigrationError) => void = () => {};
  #count = 0;
  /** What there is to wait for. A stranger that opens a stream, and may say nothing for long, is not, until it has shown itself. */
  #underWay = 0;
  /** Something that counts has begun. */
  #begun = false;
  #failure: MigrationError | undefined;

  constructor(settings: StreamsSettings, events: TunnelEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#over = new Promise((resolve, reject) => {
      this.#settle = (failure) => (failure ? reject(failure) : resolve());
    });
    this.#over.catch(() => {});
    setMaxListeners(0, this.#stop.signal);
  }

  /** Whether one more would be too many, or comes too late. */
  get full(): boolean {
    return this.#running.size >= MOST_STREAMS || this.#stop.signal.aborted;
  }

  /** Says that one was turned away because of that. */
  tooMany(who: string): void {
    const message = `there are ${MOST_STREAMS} streams already, as many as run at one time`;
    this.#events.refused?.(who, new MigrationError('RESOURCE_LIMIT', 'listen', message));
  }

  /**
   * Opens a stream and runs it to its end. Resolves when it has been opened, or could not.
   * @param open owns everything until it resolves; says by `shown` that the peer means it
   */
  run(who: string, open: (signal: AbortSignal, shown: () => void) => Promise<ReadyStream>): Promise<void> {
    let counts = !this.#settings.strangers;
    if (counts) this.#underWay++;
    const opening = open(this.#stop.signal, () => {
      if (!counts) this.#underWay++;
      counts = true;
    });
    const running = this.#run(who, opening).finally(() => {
      this.#running.delete(running);
      if (counts) this.#underWay--;
      if (this.#settings.once && this.#begun && this.#underWay === 0) this.#settle(this.#failure);
    });
    this.#running.add(running);
    return opening.then(
      () => {},
      () => {},
    );
  }

  async #run(who: string, opening: Promise<ReadyStream>): Promise<void> {
    let ready: ReadyStream;
    try {
      ready = await opening;
    } catch (thrown) {
      const error = toMigrationError(thrown, 'connect');
      if (!this.#settings.strangers) {
        this.#begun = true;
        this.#failure ??= error;
      }
      this.#events.refused?.(who, error);
      return;
    }
    this.#begun = true;
    const { link, stream } = ready;
    const facts = { stream: ++this.#count, peer: link.peer, ...(link.tls && { tls: link.tls }) };
    const error = await this.#pump(ready, () => this.#events.opened?.(facts));
    await link.close();
    const { bytesSent: sent, bytesReceived: received } = stream;
    this.#failure ??= error;
    this.#events.closed?.({ ...facts, sent, received, ...(error && { error }) });
  }

  /** Undefined: it has ended in order. */
  async #pump({ stream, ring, local }: ReadyStream, begun: () => void): Promise<MigrationError | undefined> {
    const { silenceMs } = this.#settings;
    const aliveMs = Math.max(ALIVE_MS.least, Math.min(ALIVE_MS.most, Math.floor(ring.silenceMs / 4)));
    const { signal } = this.#stop;
    const stop = (): void => stream.reset('the tunnel was stopped');
    try {
      const { in: input, out, stdio } = local;
      const { address, rkey, bytes } = ring;
      const ended = stream.start({ in: input, out, stdio, address, rkey, bytes, silenceMs, aliveMs });
      local.done();
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
      begun();
      const reason = await ended;
      return reason === null ? undefined : toMigrationError(reason, 'close');
    } catch (thrown) {
      local.refuse();
      return toMigrationError(thrown, 'setup');
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** What the end listened at is of no use any more. */
  fail(error: MigrationError): void {
    this.#settle(error);
  }

  /**
   * Until all is over: with `once` the first streams, otherwise the signal.
   * @throws MigrationError with `once`, why a stream failed; CANCELLED when the signal has cut streams off
   */
  async serve(signal: AbortSignal | undefined): Promise<void> {
    try {
      await unlessAborted(this.#over, signal, 'close');
    } catch (error) {
      const cut = this.#underWay > 0;
      await this.close();
      if (!signal?.aborted || cut) throw error;
    }
  }

  /** Resets what runs, and waits for its end. Idempotent. */
  async close(): Promise<void> {
    this.#stop.abort(new MigrationError('CANCELLED', 'close', 'the tunnel was stopped'));
    await Promise.all(this.#running);
  }
}

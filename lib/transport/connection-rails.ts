import type { MigrationError, Phase } from '../errors.ts';
import type { NativeConnection, NativeConnectionRequest } from '../native/transport.ts';
import { type TrafficSecrets, wipe } from '../trust/session-keys.ts';
import { labelled } from './connection-errors.ts';
import { whileItMoves } from './progress-watch.ts';
import type { Secured } from './secured.ts';
import { GRACE_MS, unlessAborted, within } from './wait.ts';

/** One more queue pair. */
interface RailSettings {
  /** Which one, from 1 on: each has keys of its own, for one attempt. */
  readonly index: number;
  /** Connecting and the handshake, milliseconds. */
  readonly connectTimeoutMs: number;
  readonly signal: AbortSignal;
}

interface Limits {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What rails need of the connection that they belong to. */
interface Owner {
  phase(): Phase;
  readonly secured: Secured | undefined;
  /** As of {@link Links}. */
  lostMs(): number;
  /** Why the connection ended, where a call on it failed because of that. */
  endError(error: unknown): Promise<MigrationError>;
}

/** The further queue pairs of a connection: they carry WRITEs, and end with it. */
export class ConnectionRails {
  readonly #native: NativeConnection;
  readonly #owner: Owner;

  constructor(native: NativeConnection, owner: Owner) {
    this.#native = native;
    this.#owner = owner;
  }

  /** Queue pairs that are established, the one of the messages included. */
  get channels(): number {
    return this.#native.rails;
  }

  /**
   * Makes one more queue pair for WRITEs; answers with the peer's private data. When it fails the others are as they were, and it does not
   * come up later.
   * @throws MigrationError CONNECTION_REFUSED, REJECTED, TIMEOUT, CANCELLED and the wire's codes
   */
  connect(
    endpoint: { readonly host: string; readonly port: number },
    privateData: Uint8Array,
    { index, connectTimeoutMs, signal }: RailSettings,
  ): Promise<Uint8Array> {
    // The native side has the deadline. Whoever gave up earlier could not say that it does not come up, with nobody to look at its answer.
    const rail = this.#withRailSecrets(index, (secrets) =>
      this.#native.connectRail(endpoint, privateData, connectTimeoutMs, secrets),
    );
    return unlessAborted(rail, signal, this.#owner.phase());
  }

  /** The passive side of {@link connect}. @throws MigrationError as there */
  accept(
    request: NativeConnectionRequest,
    privateData: Uint8Array,
    { index, connectTimeoutMs, signal }: RailSettings,
  ): Promise<void> {
    const what = 'a further channel to be established';
    const timeoutMs = connectTimeoutMs + GRACE_MS;
    const rail = this.#withRailSecrets(index, (secrets) =>
      this.#native.acceptRail(request, privateData, secrets),
    );
    return within(rail, { phase: this.#owner.phase(), timeoutMs, signal, what });
  }

  /** None where a device carries rails: its WRITEs are in clear anyway, and what else goes over a rail are barriers, which tell nothing. */
  async #withRailSecrets<T>(index: number, establish: (secrets?: TrafficSecrets) => Promise<T>): Promise<T> {
    if (!this.#owner.secured?.encrypted) return establish();
    const secrets = this.#owner.secured.keys.traffic(index);
    try {
      return establish(secrets);
    } finally {
      wipe(secrets); // they have been copied
    }
  }

  /**
   * Resolves when every WRITE that has been posted is placed at the peer, whatever channel it took. Over one channel at once: there a message
   * comes after the WRITEs before it. The wait goes on while bytes leave, at {@link LEAST_RATE} at least.
   * @throws MigrationError why the connection ended; TIMEOUT; CANCELLED
   */
  async barrier(limits: Limits): Promise<void> {
    if (this.channels === 1) return;
    const placed = this.#native.barrier();
    const wanted = { ...limits, phase: this.#owner.phase(), what: 'the peer to answer on every channel' };
    try {
      const sent = () => this.#native.stats().bytesSent;
      await whileItMoves(placed, wanted, sent, () => this.#owner.lostMs());
    } catch (error) {
      throw limits.signal?.aborted ? labelled(error, this.#owner.phase()) : await this.#owner.endError(error);
    }
  }

  /** After the last barrier, or its peer's word that it has passed: the further channels may end, and the connection goes on without. */
  release(): void {
    this.#native.releaseRails();
  }
}

import { MigrationError, toMigrationError } from '../errors.ts';
import { type Agreed, rejectionCapabilities } from '../protocol/capabilities.ts';
import type { ControlMessage } from '../protocol/control.ts';
import type { IncomingConnection } from '../transport/connect.ts';
import type { Connection, Received } from '../transport/connection.ts';
import { throwIfAborted, unlessAborted } from '../transport/wait.ts';
import { step } from './destination-machine.ts';

/** Peers that may wait for their turn. An honest one gives up after its own connect timeout, ten seconds. */
const MOST_WAITING = 32;

/** A source that has shown that it is one. */
export interface AdmittedSource {
  readonly connection: Connection;
  readonly agreed: Agreed;
  /** READY has been said for it. */
  readonly first: Received;
}

interface GateSettings {
  /** @throws MigrationError when the peer is none that can be served */
  readonly answer: (privateData: Uint8Array) => { reply: Uint8Array; agreed: Agreed };
  /** Peers that are let in at the same time, until one of them has spoken. */
  readonly atOnce: number;
  /** The longest wait for the first message of a peer that is connected, milliseconds. */
  readonly timeoutMs: number;
  readonly notice: (message: string) => void;
}

/**
 * Where peers come in: the first that says what a source says is served. A port that anybody can reach is reached by strangers too, so
 * they are let in side by side: one that says nothing, or goes away, is dropped and keeps nobody waiting. Peers that come before a source
 * is waited for, or while others are let in, wait in a queue.
 */
export class SourceGate {
  readonly #settings: GateSettings;
  readonly #waiting: IncomingConnection[] = [];
  /** Aborted when nobody is let in any more: one was admitted, or the wait has ended. */
  readonly #shut = new AbortController();
  readonly #farewells = new Set<Promise<void>>();
  #letIn = 0;
  #admit: ((source: AdmittedSource) => void) | undefined;
  #admitted: AdmittedSource | undefined;

  constructor(settings: GateSettings) {
    this.#settings = settings;
  }

  /** Takes a peer, or refuses it when too many wait or nobody is let in any more. */
  come(incoming: IncomingConnection): void {
    if (this.#shut.signal.aborted || this.#waiting.length >= MOST_WAITING) {
      this.#refuse(incoming);
    } else {
      this.#waiting.push(incoming);
      this.#letNextIn();
    }
  }

  /**
   * Waits for a source, once; every other peer is sent away afterwards.
   * @throws MigrationError the reason of the signal
   */
  async admit(signal: AbortSignal): Promise<AdmittedSource> {
    throwIfAborted(signal, 'listen');
    const admitted = new Promise<AdmittedSource>((resolve) => {
      this.#admit = resolve;
    });
    this.#letNextIn();
    try {
      return await unlessAborted(admitted, signal, 'listen');
    } catch (error) {
      // It may have come in the same moment.
      if (this.#admitted) this.#keep(this.#admitted.connection.fail(toMigrationError(error, 'listen')));
      throw error;
    } finally {
      this.shut();
    }
  }

  /** Sends away whoever has not been admitted. Idempotent. */
  shut(): void {
    if (!this.#shut.signal.aborted) {
      this.#shut.abort(new MigrationError('CANCELLED', 'listen', 'another source came first'));
    }
    for (const incoming of this.#waiting.splice(0)) this.#refuse(incoming);
  }

  /** {@link shut}, and waits until they have gone. */
  async close(): Promise<void> {
    this.shut();
    while (this.#farewells.size > 0) await Promise.all(this.#farewells);
  }

  #letNextIn(): void {
    if (!this.#admit || this.#letIn >= this.#settings.atOnce) return;
    const incoming = this.#waiting.shift();
    if (!incoming) return;
    this.#letIn += 1;
    this.#keep(
      this.#try(incoming).finally(() => {
        this.#letIn -= 1;
        this.#letNextIn();
      }),
    );
    this.#letNextIn();
  }

  /** Nothing here may throw: whoever came is a stranger until it has spoken. */
  async #try(incoming: IncomingConnection): Promise<void> {
    const { signal } = this.#shut;
    let connection: Connection | undefined;
    try {
      const { reply, agreed } = this.#settings.answer(incoming.privateData);
      connection = await incoming.accept(reply, signal);
      connection.tellsReasons = agreed.reasons;
      const first = await this.#firstMessage(connection, signal);
      throwIfAborted(signal, 'negotiate');
      this.#admitted = { connection, agreed, first };
      this.#admit?.(this.#admitted);
      this.shut();
    } catch (error) {
      this.#sendAway(incoming, connection, toMigrationError(error, 'negotiate'));
      if (!signal.aborted) this.#say(incoming, error);
    }
  }

  async #firstMessage(connection: Connection, signal: AbortSignal): Promise<Received> {
    const limits = { timeoutMs: this.#settings.timeoutMs, signal };
    await connection.send({ type: 'READY' }, limits);
    const first = await connection.receive({ ...limits, what: 'the source’s first message' });
    requireFirst(first.message);
    return first;
  }

  #say(incoming: IncomingConnection, error: unknown): void {
    this.#settings.notice(`refused ${incoming.peerAddress}: ${toMigrationError(error, 'negotiate').message}`);
  }

  /** Nobody waits for a peer to take its refusal, or it would keep the next source out for that time. */
  #sendAway(
    incoming: IncomingConnection,
    connection: Connection | undefined,
    failure: MigrationError,
  ): void {
    if (connection) this.#keep(connection.fail(failure));
    else this.#refuse(incoming);
  }

  #refuse(incoming: IncomingConnection): void {
    this.#keep(incoming.reject(rejectionCapabilities()));
  }

  #keep(farewell: Promise<void>): void {
    const kept = farewell.catch(() => {}).finally(() => this.#farewells.delete(kept));
    this.#farewells.add(kept);
  }
}

/** What opens the VM's stream; it is carried out later. */
function requireFirst(message: ControlMessage): void {
  const { action } = step({ name: 'stream' }, message);
  if (action.do === 'feed-stream') return;
  throw new MigrationError('PROTOCOL_ERROR', 'negotiate', `its first message is ${message.type}`);
}

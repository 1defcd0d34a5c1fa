import { MigrationError, toMigrationError } from '../../errors.ts';
import { type Agreed, type Rail, railOf, rejectionCapabilities } from '../../protocol/capabilities.ts';
import type { ControlMessage } from '../../protocol/control.ts';
import type { IncomingConnection } from '../../transport/connect.ts';
import type { Connection, Received } from '../../transport/connection.ts';
import { throwIfAborted, unlessAborted } from '../../transport/wait.ts';
import { step } from './destination-machine.ts';
import { RailGate } from './rail-gate.ts';

/**
 * Peers that may wait for their turn: more than a listener has unanswered, so that the others wait in the kernel and none that is honest is
 * refused. An honest one gives up after its own connect timeout, ten seconds.
 */
const MOST_WAITING = 128;
/** What a peer has to say its first message when others wait for its place. A QEMU with much RAM prepares for a moment before it speaks. */
const GIVE_WAY_MS = 3_000;
/** The same when a crowd waits: one of ours speaks at once. */
const CROWD = 8;
const GIVE_WAY_TO_CROWD_MS = 250;
/** So many refusals are said one by one, then each time when there are twice as many: a storm must not fill a log. */
const SAID_EACH = 16;

/** A source that has shown that it is one. */
export interface AdmittedSource {
  readonly connection: Connection;
  readonly agreed: Agreed;
  /** The source's word for the migration; a version 1 source has none. */
  readonly migrationId?: string;
  /** READY has been said for it. */
  readonly first: Received;
  /** When the connection was made, of `performance.now()`. */
  readonly since: number;
}

/** What is said to a peer. */
export interface Answer {
  readonly reply: Uint8Array;
  readonly agreed: Agreed;
  readonly migrationId?: string;
}

/** A peer that has been let in and has not spoken. */
interface Silent {
  readonly host: string;
  /** `performance.now()` */
  readonly since: number;
  /** Its host has asked for another connection meanwhile. */
  twin: boolean;
}

interface GateSettings {
  /** @throws MigrationError when the peer is none that can be served */
  readonly answer: (privateData: Uint8Array) => Answer;
  /** Peers that are let in at the same time, until one of them has spoken. */
  readonly atOnce: number;
  /** The longest wait for the first message of a peer that is connected, milliseconds. */
  readonly timeoutMs: number;
  /** Somebody was refused. */
  readonly notice: (message: string, peer: string) => void;
}

/**
 * Where peers come in: the first that says what a source says is served. A port that anybody can reach is reached by strangers too, so
 * they are let in side by side: one that says nothing, or goes away, is dropped and keeps nobody waiting. Peers that come before a source
 * is waited for, or while as many others are let in as may be, wait in a queue; whoever is connected and silent gives way to them. From the
 * one that was admitted on only its further channels are let in.
 */
export class SourceGate {
  readonly #settings: GateSettings;
  readonly #waiting: IncomingConnection[] = [];
  /** Aborted when nobody is let in any more: one was admitted, or the wait has ended. */
  readonly #shut = new AbortController();
  readonly #farewells = new Set<Promise<void>>();
  readonly #rails = new RailGate();
  /** Peers that have been let in and have not spoken; the first is the one that came first. */
  readonly #silent = new Map<AbortController, Silent>();
  #giveWay: NodeJS.Timeout | undefined;
  #letIn = 0;
  /** Refused so far, and how many there were when it was last said. */
  #refused = 0;
  #said = 0;
  #admit: ((source: AdmittedSource) => void) | undefined;
  #admitted: AdmittedSource | undefined;

  constructor(settings: GateSettings) {
    this.#settings = settings;
  }

  /** Takes a peer, or refuses it when too many wait or nobody is let in any more. */
  come(incoming: IncomingConnection): void {
    const rail = railIn(incoming.privateData);
    if (rail) {
      this.#keep(this.#letRailIn(incoming, rail));
      return;
    }
    const host = hostOf(incoming.peerAddress);
    for (const silent of this.#silent.values()) silent.twin ||= silent.host === host;
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
    const admitted = new Promise<AdmittedSource>((resolve) => {
      this.#admit = resolve;
    });
    this.#letNextIn();
    try {
      return await unlessAborted(admitted, signal, 'listen');
    } catch (error) {
      // It may have come in the same moment.
      if (this.#admitted) this.#keep(this.#admitted.connection.fail(toMigrationError(error, 'listen')));
      this.shut(toMigrationError(error, 'listen'));
      throw error;
    }
  }

  /** Sends away whoever has not been admitted, and says why. Idempotent. */
  shut(
    why = new MigrationError('CANCELLED', 'listen', 'the destination waits for no source any more'),
  ): void {
    if (!this.#shut.signal.aborted) this.#shut.abort(why);
    clearTimeout(this.#giveWay);
    for (const incoming of this.#waiting.splice(0)) this.#refuse(incoming);
  }

  /** Resolves when nobody is let in any more, not even a further channel of the source that was admitted. */
  get over(): Promise<void> {
    return this.#rails.over;
  }

  /** Further channels of the source that was admitted come too late from now on. Idempotent. */
  shutRails(): void {
    this.#rails.close();
  }

  /** {@link shut} and {@link shutRails}, and waits until all have gone. */
  async close(): Promise<void> {
    this.shut();
    this.shutRails();
    while (this.#farewells.size > 0) await Promise.all(this.#farewells);
  }

  async #letRailIn(incoming: IncomingConnection, rail: Rail): Promise<void> {
    try {
      await this.#rails.admit(incoming, rail);
    } catch (error) {
      this.#refuse(incoming);
      if (!this.#shut.signal.aborted) this.#say(incoming, error);
    }
  }

  #letNextIn(): void {
    if (!this.#admit) return;
    if (this.#letIn >= this.#settings.atOnce) {
      this.#makeRoom();
      return;
    }
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

  /** The peer that has been silent longest loses its place, once it has had its time. */
  #makeRoom(): void {
    clearTimeout(this.#giveWay);
    const [oldest] = this.#silent;
    if (this.#waiting.length === 0 || oldest === undefined) return;
    const [peer, { since }] = oldest;
    const patience = this.#waiting.length < CROWD ? GIVE_WAY_MS : GIVE_WAY_TO_CROWD_MS;
    const left = since + patience - performance.now();
    if (left > 0) {
      this.#giveWay = setTimeout(() => this.#makeRoom(), left);
      return;
    }
    this.#silent.delete(peer);
    const why = `it has said nothing for ${patience / 1000} s, and others wait`;
    peer.abort(new MigrationError('TIMEOUT', 'negotiate', why));
  }

  /** Nothing here may throw: whoever came is a stranger until it has spoken. */
  async #try(incoming: IncomingConnection): Promise<void> {
    const silence = new AbortController();
    const silent = { host: hostOf(incoming.peerAddress), since: performance.now(), twin: false };
    this.#silent.set(silence, silent);
    const signal = AbortSignal.any([this.#shut.signal, silence.signal]);
    let connection: Connection | undefined;
    try {
      const { reply, agreed, migrationId } = this.#settings.answer(incoming.privateData);
      connection = await incoming.accept(reply, signal);
      const since = performance.now();
      connection.tellsReasons = agreed.reasons;
      const first = await this.#firstMessage(connection, agreed, silent, signal);
      throwIfAborted(this.#shut.signal, 'negotiate');
      if (agreed.token === undefined) this.#rails.close();
      else this.#rails.open(connection, agreed.token, agreed.channels);
      this.#admitted = {
        connection,
        agreed,
        first,
        since,
        ...(migrationId !== undefined && { migrationId }),
      };
      this.#admit?.(this.#admitted);
      this.shut(new MigrationError('REJECTED', 'listen', 'another source came first'));
    } catch (error) {
      this.#sendAway(incoming, connection, toMigrationError(error, 'negotiate'));
      if (!this.#shut.signal.aborted) this.#say(incoming, error);
    } finally {
      this.#silent.delete(silence);
    }
  }

  async #firstMessage(
    connection: Connection,
    { extended }: Agreed,
    silent: Silent,
    signal: AbortSignal,
  ): Promise<Received> {
    const limits = { timeoutMs: this.#settings.timeoutMs, signal };
    try {
      await connection.send({ type: 'READY' }, limits);
      const first = await connection.receive({ ...limits, what: 'the source’s first message' });
      requireFirst(first.message);
      return first;
    } catch (error) {
      if (this.#shut.signal.aborted || extended) throw error;
      throw silent.twin ? wantedAnother(error) : saidNothing(connection, error);
    }
  }

  #say(incoming: IncomingConnection, error: unknown): void {
    this.#refused += 1;
    if (this.#refused > SAID_EACH && this.#refused < 2 * this.#said) return;
    this.#said = this.#refused;
    const { message } = toMigrationError(error, 'negotiate');
    const others = this.#refused > SAID_EACH ? ` (the last of ${this.#refused} that were refused)` : '';
    this.#settings.notice(`refused ${incoming.peerAddress}: ${message}${others}`, incoming.peerAddress);
  }

  /** Nobody waits for a peer to take its refusal, or it would keep the next source out for that time. */
  #sendAway(incoming: IncomingConnection, connection: Connection | undefined, failure: MigrationError): void {
    if (connection) this.#keep(connection.fail(failure));
    else this.#refuse(incoming);
  }

  #refuse(incoming: IncomingConnection): void {
    incoming.reject(rejectionCapabilities());
  }

  #keep(farewell: Promise<void>): void {
    const kept = farewell.catch(() => {}).finally(() => this.#farewells.delete(kept));
    this.#farewells.add(kept);
  }
}

/** undefined also for what cannot be read: whoever answers it finds that out. */
function railIn(privateData: Uint8Array): Rail | undefined {
  try {
    return railOf(privateData);
  } catch {
    return undefined;
  }
}

/** What opens the VM's stream; it is carried out later. */
function requireFirst(message: ControlMessage): void {
  const { action } = step({ name: 'stream' }, message);
  const what = action.do === 'feed-stream' ? 'no beginning of a QEMU stream' : message.type;
  if (action.do === 'feed-stream' && beginsStream(action.bytes)) return;
  throw new MigrationError('PROTOCOL_ERROR', 'negotiate', `its first message is ${what}`);
}

/**
 * A QEMU with a return path opens a second connection for it before it says anything on the first (QEMU 7.2 with postcopy-ram or
 * dirty-bitmaps, from 8.0 on with return-path too), and gives up when it does not get one. Nothing else tells that at this end.
 */
const wantedAnother = (error: unknown): MigrationError =>
  withHint(
    error,
    'Its host asked for a second connection before it said anything: if it is a QEMU, it has the capability return-path, postcopy-ram or ' +
      'dirty-bitmaps on, and waits there for answers that nothing here gives. Switch these off at the source',
  );

/** QEMU 7.2 with return-path connects, and gives up without a word. */
function saidNothing(connection: Connection, error: unknown): unknown {
  if (!connection.ended.aborted) return error;
  return withHint(
    error,
    'It connected and said nothing: so does a QEMU 7.2 with the capability return-path on, which cannot migrate over RDMA then. Switch that ' +
      'capability off at the source',
  );
}

function withHint(error: unknown, hint: string): MigrationError {
  const cause = toMigrationError(error, 'negotiate');
  const message = `${cause.message.replace(/[.]$/, '')}. ${hint}`;
  return new MigrationError(cause.code, 'negotiate', message, { cause, details: cause.details });
}

const STREAM_MAGIC = Buffer.from('QEVM');

function beginsStream(bytes: Uint8Array): boolean {
  const length = Math.min(bytes.length, STREAM_MAGIC.length);
  return length > 0 && STREAM_MAGIC.subarray(0, length).equals(bytes.subarray(0, length));
}

const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(':'));

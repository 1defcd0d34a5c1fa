import { MigrationError, toMigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import type { Rail } from '../../protocol/extension.ts';
import { railOf } from '../../protocol/rail-request.ts';
import { rejectionCapabilities } from '../../protocol/rejection.ts';
import type { IncomingConnection } from '../../transport/connect.ts';
import type { Connection, Received } from '../../transport/connection.ts';
import { hostOf } from '../../transport/host.ts';
import { throwIfAborted, unlessAborted } from '../../transport/wait.ts';
import type { AllowedAddresses } from '../../trust/allow.ts';
import { nextIn, nextOut, surplus } from '../../trust/fairness.ts';
import { requireFirst, saidNothing, wantedAnother } from './first-message.ts';
import { type Crowd, type Guest, gaveWay, guestOf, patienceMs, reach } from './guest.ts';
import { HandshakeTurns } from './handshake-turns.ts';
import { RailGate, type RailPass } from './rail-gate.ts';
import { Refusals, type SayRefused } from './refusals.ts';

/**
 * Peers that may wait for their turn. A listener takes no more while it has 64 unanswered, and then the others wait in the kernel, first come, first
 * served: so where fewer than these wait nobody is sent away, from there on the hosts that have several waiting are; and where each has one, the
 * kernel may keep the others. An honest one gives up after its own connect timeout, ten seconds.
 */
const WAITING = { fair: 48, most: 128 };
/** The part of the places in which handshakes of one host may be under way. */
const SHARE_OF_ONE_HOST = 1 / 4;
const LEAST_OF_ONE_HOST = 2;

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
  /** Its further channels. */
  readonly rails: RailPass;
}

/** What is said to a peer. */
export interface Answer {
  readonly reply: Uint8Array;
  readonly agreed: Agreed;
  readonly migrationId?: string;
}

interface GateSettings {
  /** Everybody else is refused at once. Absent: everybody may come. */
  readonly allowed?: AllowedAddresses;
  /** @throws MigrationError when the peer is none that can be served */
  readonly answer: (privateData: Uint8Array) => Answer;
  /** Only sources with credentials are let in, a rejection says so, and each has that long to show who it is, milliseconds. Absent: all are. */
  readonly tlsWithinMs?: number;
  /** Peers that are let in at the same time, until one of them has spoken. */
  readonly atOnce: number;
  /** The longest wait for the first message of a peer that is connected, milliseconds. */
  readonly timeoutMs: number;
  /** Why no source can be taken now; undefined: one can. Absent: always. */
  readonly full?: () => MigrationError | undefined;
  /** Somebody was refused. */
  readonly notice: SayRefused;
}

/**
 * Where peers come in: whoever says what a source says is served, as long as one can be taken. A port that anybody can reach is reached by strangers too, so
 * they are let in side by side: one that says nothing, or goes away, is dropped and keeps nobody waiting. Peers that come before a source
 * is waited for, or while as many others are let in as may be, wait in a queue; whoever is connected and does not go on gives way to them. A host
 * with few peers comes before one with many, and one with many gives way first. Where credentials are asked for, a peer has its place until its handshake
 * has failed, within a limit of time, and only so many handshakes are begun in a second. Once it is shut only further channels of those that were
 * admitted are let in.
 */
export class SourceGate {
  readonly #settings: GateSettings;
  readonly #waiting: IncomingConnection[] = [];
  /** Aborted when no source is let in any more. */
  readonly #shut = new AbortController();
  readonly #farewells = new Set<Promise<void>>();
  readonly #rails = new RailGate();
  /** Peers that have a place and have not spoken. */
  readonly #inside = new Set<Guest>();
  readonly #turns: HandshakeTurns;
  readonly #refusals: Refusals;
  #giveWay: NodeJS.Timeout | undefined;
  /** Places that are taken, also by those who are about to leave. */
  #letIn = 0;
  #admit: ((source: AdmittedSource) => void) | undefined;

  constructor(settings: GateSettings) {
    this.#settings = settings;
    const share = Math.floor(settings.atOnce * SHARE_OF_ONE_HOST);
    this.#turns = new HandshakeTurns(this.#inside, Math.max(LEAST_OF_ONE_HOST, share));
    this.#refusals = new Refusals(settings.notice);
  }

  /** Takes a peer, or refuses it when it may not come, too many wait, or nobody is let in any more. */
  come(incoming: IncomingConnection): void {
    if (this.#settings.allowed?.hasPeer(incoming.peerAddress) === false) {
      this.#refuse(incoming, notAllowed());
      return;
    }
    const rail = railIn(incoming.privateData);
    if (rail) {
      this.#keep(this.#letRailIn(incoming, rail));
      return;
    }
    const host = hostOf(incoming.peerAddress);
    for (const guest of this.#inside) guest.twin ||= guest.host === host;
    if (this.#shut.signal.aborted) {
      this.#refuse(incoming);
      return;
    }
    const full = this.#settings.full?.();
    if (full) {
      this.#refuse(incoming, full);
      return;
    }
    this.#waiting.push(incoming);
    this.#keepFew();
    this.#letNextIn();
  }

  /** From now on sources are let in, and each is handed to `admit`, which must not throw. Once. */
  open(admit: (source: AdmittedSource) => void): void {
    this.#admit = admit;
    this.#letNextIn();
  }

  /**
   * Waits for one source; every other peer is sent away afterwards.
   * @throws MigrationError the reason of the signal
   */
  async admit(signal: AbortSignal): Promise<AdmittedSource> {
    let came: AdmittedSource | undefined;
    const admitted = new Promise<AdmittedSource>((resolve) => {
      this.open((source) => {
        came = source;
        this.shut(new MigrationError('REJECTED', 'listen', 'another source came first'));
        resolve(source);
      });
    });
    try {
      return await unlessAborted(admitted, signal, 'listen');
    } catch (error) {
      // It may have come in the same moment.
      if (came) this.#keep(came.connection.fail(toMigrationError(error, 'listen')));
      this.shut(toMigrationError(error, 'listen'));
      throw error;
    }
  }

  /** No source is let in any more: sends away whoever has not been admitted, and says why. Idempotent. */
  shut(
    why = new MigrationError('CANCELLED', 'listen', 'the destination waits for no source any more'),
  ): void {
    if (!this.#shut.signal.aborted) this.#shut.abort(why);
    for (const { leave } of this.#inside) leave.abort(this.#shut.signal.reason);
    clearTimeout(this.#giveWay);
    for (const incoming of this.#waiting.splice(0)) this.#refuse(incoming);
  }

  /** Further channels of any source come too late from now on. Idempotent. */
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
      this.#refuse(incoming, error);
    }
  }

  #keepFew(): void {
    const tooMany = surplus(this.#hosts(), WAITING);
    const [incoming] = tooMany === undefined ? [] : this.#waiting.splice(tooMany, 1);
    if (incoming) this.#refuse(incoming, tooManyWait());
  }

  /** Of those who wait. */
  #hosts(): readonly string[] {
    return this.#waiting.map(({ peerAddress }) => hostOf(peerAddress));
  }

  #letNextIn(): void {
    if (!this.#admit || this.#waiting.length === 0) return;
    if (this.#letIn >= this.#settings.atOnce) {
      this.#makeRoom();
      return;
    }
    const [incoming] = this.#waiting.splice(nextIn(this.#hosts(), this.#inside), 1);
    this.#letIn += 1;
    this.#keep(
      this.#try(incoming as IncomingConnection).finally(() => {
        this.#letIn -= 1;
        this.#letNextIn();
      }),
    );
    this.#letNextIn();
  }

  /** Of the host with most places the peer that has had its time first loses its place. */
  #makeRoom(): void {
    clearTimeout(this.#giveWay);
    const leaving = this.#letIn - this.#inside.size;
    if (this.#waiting.length <= leaving) return;
    const crowd: Crowd = { waiting: this.#hosts(), atOnce: this.#settings.atOnce };
    const next = nextOut(this.#inside, (guest, count) => patienceMs(guest, count, crowd));
    if (next === undefined) return;
    const { guest, due } = next;
    const left = due - performance.now();
    if (left > 0) {
      this.#giveWay = setTimeout(() => this.#makeRoom(), left);
      return;
    }
    this.#inside.delete(guest);
    guest.leave.abort(new MigrationError('TIMEOUT', 'negotiate', gaveWay(guest, due - guest.since)));
  }

  /** Nothing here may throw: whoever came is a stranger until it has spoken. */
  async #try(incoming: IncomingConnection): Promise<void> {
    const stage = this.#settings.tlsWithinMs === undefined ? 'silent' : 'greeting';
    const guest = guestOf(hostOf(incoming.peerAddress), stage);
    this.#inside.add(guest);
    const { signal } = guest.leave;
    let connection: Connection | undefined;
    try {
      const { reply, agreed, migrationId } = this.#settings.answer(incoming.privateData);
      connection = await this.#accept(incoming, reply, guest, signal);
      const since = performance.now();
      connection.tellsReasons = agreed.reasons;
      const first = await this.#firstMessage(connection, agreed, guest, signal);
      throwIfAborted(this.#shut.signal, 'negotiate');
      const full = this.#settings.full?.();
      if (full) throw full;
      this.#admit?.({
        connection,
        agreed,
        first,
        since,
        rails: this.#rails.open(connection, agreed),
        ...(migrationId !== undefined && { migrationId }),
      });
    } catch (error) {
      this.#sendAway(incoming, connection, toMigrationError(error, 'negotiate'));
    } finally {
      this.#inside.delete(guest);
      this.#turns.goOn();
    }
  }

  /** Where credentials are asked for the peer has shown who it is then. */
  async #accept(
    incoming: IncomingConnection,
    reply: Uint8Array,
    guest: Guest,
    signal: AbortSignal,
  ): Promise<Connection> {
    const { tlsWithinMs } = this.#settings;
    if (tlsWithinMs === undefined) return incoming.accept(reply, signal);
    const late = setTimeout(() => guest.leave.abort(tooSlow(tlsWithinMs)), tlsWithinMs);
    const watch = {
      begins: () => this.#turns.take(guest, signal),
      proved: () => {
        reach(guest, 'proved');
        this.#turns.goOn();
      },
    };
    try {
      return await incoming.accept(reply, signal, watch);
    } finally {
      clearTimeout(late);
    }
  }

  async #firstMessage(
    connection: Connection,
    { extended }: Agreed,
    guest: Guest,
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
      if (guest.twin) throw wantedAnother(error);
      throw connection.ended.aborted ? saidNothing(error) : error;
    }
  }

  /** Nobody waits for a peer to take its refusal, or it would keep the next source out for that time. */
  #sendAway(incoming: IncomingConnection, connection: Connection | undefined, failure: MigrationError): void {
    if (connection) {
      this.#keep(connection.fail(failure));
      this.#say(incoming, failure);
    } else {
      this.#refuse(incoming, failure);
    }
  }

  /** `why`: what is said of it. */
  #refuse(incoming: IncomingConnection, why?: unknown): void {
    const error = why === undefined ? undefined : toMigrationError(why, 'negotiate');
    const tls = this.#settings.tlsWithinMs !== undefined;
    const { code } = error ?? (this.#shut.signal.reason as MigrationError | undefined) ?? {};
    incoming.reject(rejectionCapabilities({ tls, busy: code === 'BUSY' }));
    if (error) this.#say(incoming, error);
  }

  #say({ peerAddress }: IncomingConnection, why: MigrationError): void {
    if (!this.#shut.signal.aborted) this.#refusals.add(peerAddress, why);
  }

  #keep(farewell: Promise<void>): void {
    const kept = farewell.catch(() => {}).finally(() => this.#farewells.delete(kept));
    this.#farewells.add(kept);
  }
}

const notAllowed = (): MigrationError =>
  new MigrationError('NOT_AUTHORIZED', 'listen', 'its address is not among those that may connect (allow)');

const tooManyWait = (): MigrationError =>
  new MigrationError('REJECTED', 'listen', 'too many wait to be let in, and most of them at its address');

const tooSlow = (tlsWithinMs: number): MigrationError =>
  new MigrationError('TIMEOUT', 'negotiate', `it has not shown who it is within ${tlsWithinMs / 1000} s`);

/** undefined also for what cannot be read: whoever answers it finds that out. */
function railIn(privateData: Uint8Array): Rail | undefined {
  try {
    return railOf(privateData);
  } catch {
    return undefined;
  }
}

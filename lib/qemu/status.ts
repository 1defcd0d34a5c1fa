/** What has become of a migration: the destination answers, and a source that could not know asks. docs/qemu-live.md says what follows from an answer. */
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError, toMigrationError } from '../errors.ts';
import {
  connectionOptions,
  type DestinationOptions,
  listenerOptions,
  type SourceOptions,
} from '../migration/options.ts';
import { rejectionCapabilities } from '../protocol/rejection.ts';
import type { StatusWord } from '../protocol/status.ts';
import { requestStatus, statusAskedFor } from '../protocol/status-request.ts';
import { parseRdmaUri } from '../protocol/uri.ts';
import { connect, type IncomingConnection, Listener } from '../transport/connect.ts';
import { chooseProvider } from '../transport/provider.ts';
import { throwIfAborted } from '../transport/wait.ts';
import { AllowedAddresses } from '../trust/allow.ts';
import { openTrust } from '../trust/open.ts';

const MOST_AT_ONCE = 4;
const DISCONNECT_MS = 1_000;
const AGAIN_MS = 250;
/** How long one question may take to be answered. */
const ANSWER_MS = 5_000;

/**
 * Asks a destination, once.
 * @throws MigrationError as connecting does; PROTOCOL_ERROR, TIMEOUT, CONNECTION_LOST, CANCELLED: there is no answer, and nothing follows from that
 */
export async function askStatus(
  uri: string,
  migrationId: string,
  options: Pick<SourceOptions, 'provider' | 'tls' | 'responseTimeoutMs' | 'connectTimeoutMs'> = {},
  signal?: AbortSignal,
): Promise<StatusWord> {
  const endpoint = parseRdmaUri(uri);
  const provider = await chooseProvider(options.provider ?? 'auto', endpoint, 'connect');
  const trust = options.tls && (await openTrust(options.tls, 'client', endpoint.host));
  const request = requestStatus(migrationId, {
    tls: trust !== undefined,
    softwareRnic: provider.name === 'iwarp',
  });
  const connection = await connect(
    provider.name,
    endpoint,
    request,
    connectionOptions(options, trust),
    signal,
  );
  try {
    const { message } = await connection.receive({ timeoutMs: ANSWER_MS, signal, what: 'the answer' });
    if (message.type === 'STATUS') return message.status;
    const said = `the destination answered ${message.type}: it knows of no such questions`;
    throw new MigrationError('PROTOCOL_ERROR', 'commit', said);
  } finally {
    await connection.disconnect(DISCONNECT_MS);
    await connection.close();
  }
}

/**
 * Asks until it is decided who has the VM.
 * @returns undefined: nobody could say, in that time
 */
export async function settle(
  ask: (signal: AbortSignal) => Promise<StatusWord>,
  timeoutMs: number,
  cancel: AbortSignal | undefined,
): Promise<'taken' | 'not-taken' | undefined> {
  const late = AbortSignal.timeout(timeoutMs);
  const signal = cancel ? AbortSignal.any([late, cancel]) : late;
  while (!signal.aborted) {
    const word = await ask(signal).catch(() => undefined);
    if (word === 'taken' || word === 'not-taken') return word;
    await delay(AGAIN_MS, undefined, { signal }).catch(() => {});
  }
  return undefined;
}

/** Answers at a destination's address, once its migration has ended. Its owner closes it. */
export class StatusService implements AsyncDisposable {
  readonly #answer: (migrationId: string) => Promise<StatusWord>;
  readonly #allowed: AllowedAddresses | undefined;
  readonly #tls: boolean;
  readonly #end = new AbortController();
  readonly #talks = new Set<Promise<void>>();
  readonly #decided = new AbortController();
  #softwareRnic = false;
  #listener: Listener | undefined;

  private constructor(options: DestinationOptions, answer: (migrationId: string) => Promise<StatusWord>) {
    this.#answer = answer;
    this.#tls = options.tls !== undefined;
    this.#allowed = options.allow && new AllowedAddresses(options.allow);
  }

  /** @throws MigrationError as listening does */
  static async listen(
    uri: string,
    options: DestinationOptions,
    answer: (migrationId: string) => Promise<StatusWord>,
  ): Promise<StatusService> {
    const endpoint = parseRdmaUri(uri);
    const provider = await chooseProvider(options.provider ?? 'auto', endpoint, 'listen');
    const trust = options.tls && (await openTrust(options.tls, 'server', endpoint.host));
    const service = new StatusService(options, answer);
    service.#softwareRnic = provider.name === 'iwarp';
    service.#listener = await Listener.open(
      provider.name,
      endpoint,
      listenerOptions(options, trust),
      (incoming) => service.#come(incoming),
      () => service.#end.abort(),
    );
    return service;
  }

  /** Waits until somebody has been told a decision, or for that long. */
  async untilTold(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const over = AbortSignal.any([signal, this.#end.signal, this.#decided.signal]);
    await delay(timeoutMs, undefined, { signal: over }).catch(() => {});
  }

  #come(incoming: IncomingConnection): void {
    const asked = statusAskedFor(incoming.privateData);
    const welcome = asked?.tls === this.#tls && this.#allowed?.hasPeer(incoming.peerAddress) !== false;
    if (asked === undefined || !welcome || this.#talks.size >= MOST_AT_ONCE || this.#end.signal.aborted) {
      incoming.reject(rejectionCapabilities({ tls: this.#tls }));
      return;
    }
    const talk = this.#tell(incoming, asked.migrationId)
      .catch(() => {}) // whoever asked asks again
      .finally(() => this.#talks.delete(talk));
    this.#talks.add(talk);
  }

  async #tell(incoming: IncomingConnection, migrationId: string): Promise<void> {
    const { signal } = this.#end;
    const connection = await incoming.accept(
      requestStatus(migrationId, { tls: this.#tls, softwareRnic: this.#softwareRnic }),
      signal,
    );
    try {
      throwIfAborted(signal, 'commit');
      const status = await this.#answer(migrationId);
      await connection.send({ type: 'STATUS', status }, { timeoutMs: ANSWER_MS, signal });
      await connection.waitForEnd({ timeoutMs: ANSWER_MS, signal });
      if (status === 'taken' || status === 'not-taken') this.#decided.abort();
    } catch (error) {
      throw toMigrationError(error, 'commit');
    } finally {
      await connection.disconnect(DISCONNECT_MS);
      await connection.close();
    }
  }

  /** Listens no more, and waits for those who are being answered. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new MigrationError('CANCELLED', 'commit', 'nobody is told any more'));
    await this.#listener?.close();
    while (this.#talks.size > 0) await Promise.all(this.#talks);
  }
}

/** The other end of the page's live channel, for programs: what a command says of its migrations, as it says it. What comes is checked. */
import { WebSocket } from 'ws';
import { z } from 'zod';
import { ERROR_CODES, type ErrorCode, MigrationError, PHASES } from '../errors.ts';
import type { MigrationProgress } from '../migration/progress.ts';
import { COMMAND_ENDED } from './access.ts';
import { authority, parseWebAddress } from './address.ts';

/** A command tells four times a second. */
const SILENCE_MS = 15_000;
const CONNECT_MS = 10_000;
const MOST_MESSAGE = 16 << 20;

const amount = z.number().nonnegative();
/** JSON has null where nothing can be said. */
const known = z
  .number()
  .nullish()
  .transform((value) => value ?? undefined);
const progress = z.looseObject({
  phase: z.enum(PHASES),
  status: z.string(),
  percentage: amount,
  eta: amount.optional(),
  ram: z.looseObject({
    total: amount,
    remaining: amount,
    mbps: amount,
    'dirty-sync-count': amount,
    'dirty-bytes-rate': amount,
  }),
  live: z
    .looseObject({
      'cpu-throttle-percentage': amount,
      'expected-downtime': known,
      'downtime-limit': known,
      downtime: known,
      verdict: z.enum(['converged', 'converging', 'dirty-rate', 'fixed-costs']).optional(),
    })
    .optional(),
});
const word = z.string().max(4096);
const result = z.looseObject({
  migrationId: word,
  peer: word,
  machine: word,
  provider: word,
  'provider-reason': word,
  channels: amount,
  integrity: word,
  outcome: z.enum(['committed', 'unconfirmed']),
  'total-time': amount,
  'setup-time': amount,
  'device-state-bytes': amount,
  'registered-peak': amount,
  'pin-all': z.boolean(),
  'pin-budget': amount.optional(),
  ram: z.looseObject({ total: amount, mbps: amount, 'normal-bytes': amount }),
  tls: z
    .object({
      cipher: word,
      subject: word.optional(),
      names: z.array(word).optional(),
      'psk-name': word.optional(),
    })
    .optional(),
  coverage: z
    .object({
      state: z.enum(['whole', 'with-gaps', 'unknown']),
      missing: z.int().nonnegative(),
      reason: word.optional(),
    })
    .optional(),
});
const migration = z.object({
  id: z.int().nonnegative(),
  title: z.string(),
  role: z.enum(['source', 'destination']),
  link: z.object({ migrationId: z.guid().optional() }),
  progress,
  notices: z.array(z.object({ at: amount, code: z.string(), message: z.string() })),
  end: z
    .object({
      status: z.enum(['completed', 'failed', 'cancelled']),
      result: result.optional(),
      error: z
        .object({
          code: z.enum(ERROR_CODES),
          phase: z.enum(PHASES),
          message: z.string(),
          details: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
        })
        .optional(),
    })
    .optional(),
});
const picture = z.object({ type: z.literal('state'), migrations: z.array(migration).max(4096) });

/** One migration as the command tells of it. */
export type WatchedMigration = Omit<z.infer<typeof migration>, 'progress'> & {
  readonly progress: MigrationProgress;
};

export interface WatchTarget {
  /** `host:port` as a URL has it. */
  readonly host: string;
  readonly token: string;
}

/**
 * Where to watch: the address that the command has printed, `http://HOST:PORT/#TOKEN`, or `[HOST:]PORT` with the token of a file.
 * @throws MigrationError INVALID_ARGUMENT
 */
export function parseWatchTarget(text: string, token?: string): WatchTarget {
  const [, where = text, given] = /^http:\/\/([^/#]+)\/?(?:#([\w-]*))?$/.exec(text) ?? [];
  const address = parseWebAddress(where);
  const known = token ?? given;
  if (!known || address.port === 0)
    throw new MigrationError(
      'INVALID_ARGUMENT',
      'configure',
      'expected the address that a command with --web has printed, with what follows #, or [HOST:]PORT with --web-token-file',
    );
  return { host: authority(address), token: known };
}

/**
 * What a command says of its migrations, until it has ended. A reader who is slow misses pictures, never the last one.
 * @throws MigrationError CONNECTION_REFUSED, CONNECT_FAILED, NOT_AUTHORIZED, PROTOCOL_ERROR, CONNECTION_LOST, TIMEOUT, CANCELLED
 */
export async function* watch(
  { host, token }: WatchTarget,
  signal: AbortSignal,
): AsyncGenerator<readonly WatchedMigration[], void, undefined> {
  const channel = new Channel(host, token, signal);
  try {
    for (let next = await channel.next(); next; next = await channel.next()) yield next;
  } finally {
    channel.close();
  }
}

class Channel {
  readonly #socket: WebSocket;
  readonly #host: string;
  readonly #signal: AbortSignal;
  #newest: readonly WatchedMigration[] | undefined;
  #over: { readonly error?: MigrationError } | undefined;
  #wake = (): void => {};
  #silence: NodeJS.Timeout;

  constructor(host: string, token: string, signal: AbortSignal) {
    this.#host = host;
    this.#signal = signal;
    this.#socket = new WebSocket(`ws://${host}/live`, {
      headers: { authorization: `Bearer ${token}` },
      handshakeTimeout: CONNECT_MS,
      maxPayload: MOST_MESSAGE,
      perMessageDeflate: false,
      followRedirects: false,
    });
    this.#silence = this.#watchSilence();
    this.#socket.on('message', (data, isBinary) => this.#take(data, isBinary));
    this.#socket.on('unexpected-response', (_, { statusCode }) => this.#end(refused(host, statusCode)));
    this.#socket.on('error', (error: NodeJS.ErrnoException) => this.#end(unreachable(host, error)));
    this.#socket.on('close', (code) => this.#end(code === COMMAND_ENDED ? undefined : lost(host)));
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void =>
    this.#end(new MigrationError('CANCELLED', 'connect', 'watching was cancelled; what is watched goes on'));

  /** The newest picture; undefined: the command has ended. */
  async next(): Promise<readonly WatchedMigration[] | undefined> {
    while (this.#newest === undefined && this.#over === undefined)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const newest = this.#newest;
    this.#newest = undefined;
    if (newest === undefined && this.#over?.error) throw this.#over.error;
    return newest;
  }

  close(): void {
    clearTimeout(this.#silence);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#socket.terminate();
  }

  #take(data: unknown, isBinary: boolean): void {
    this.#silence.refresh();
    if (isBinary) return;
    try {
      const said: unknown = JSON.parse(String(data));
      if ((said as { type?: unknown } | null)?.type !== 'state') return;
      this.#newest = picture.parse(said).migrations as unknown as readonly WatchedMigration[];
      this.#wake();
    } catch {
      this.#end(wrong(this.#host));
    }
  }

  #watchSilence(): NodeJS.Timeout {
    const message = `the command at ${this.#host} has said nothing for ${SILENCE_MS / 1000} s`;
    return setTimeout(() => this.#end(new MigrationError('TIMEOUT', 'connect', message)), SILENCE_MS);
  }

  /** The first reason counts. */
  #end(error: MigrationError | undefined): void {
    this.#over ??= { ...(error && { error }) };
    clearTimeout(this.#silence);
    this.#wake();
  }
}

const failed = (code: ErrorCode, message: string, cause?: unknown): MigrationError =>
  new MigrationError(code, 'connect', message, cause === undefined ? {} : { cause });

const wrong = (host: string): MigrationError =>
  failed('PROTOCOL_ERROR', `what answers at ${host} does not speak as a page of rdma-migrate does`);

const lost = (host: string): MigrationError =>
  failed(
    'CONNECTION_LOST',
    `the connection to ${host} was lost; what becomes of its migrations that command says itself`,
  );

function refused(host: string, status: number | undefined): MigrationError {
  if (status === 401)
    return failed(
      'NOT_AUTHORIZED',
      `${host} does not know this token: take the address that the command printed last`,
    );
  return failed('REJECTED', `${host} refuses to be watched (HTTP ${status})`);
}

function unreachable(host: string, error: NodeJS.ErrnoException): MigrationError {
  if (error.code === 'ECONNREFUSED')
    return failed('CONNECTION_REFUSED', `nothing serves a page at ${host}: has the command ended?`, error);
  return failed('CONNECT_FAILED', `the page at ${host} cannot be reached: ${error.message}`, error);
}

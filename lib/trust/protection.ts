/**
 * How a connection of either provider becomes a protected one. The handshake (handshake.ts) runs over its messages; then
 *
 *     client                                  server
 *     LAST                              ->
 *                                       <-    LAST
 *                                             protects, both ways
 *     protects, both ways
 *     CONFIRM                           ->
 *                                       <-    CONFIRM
 *
 * LAST is the last message in the clear, and has left before its sender protects. Nothing after the peer's LAST is taken before this end protects,
 * so what is protected may come as early as it likes. Neither end goes on, or acts on what was said in the clear, before it has heard the other one
 * use its keys: an end that was told something else has others.
 */
import { type ErrorCode, MigrationError, toMigrationError } from '../errors.ts';
import { within } from '../transport/wait.ts';
import type { TlsPeer } from './credentials.ts';
import { type HandshakeLimits, handshake, type Trust } from './handshake.ts';
import { type MessagePort, MessageStream } from './message-stream.ts';
import { type ClearHandshake, exporterOf, SessionKeys, type TrafficSecrets, wipe } from './session-keys.ts';

const CONFIRM = Buffer.from('rdma-migrate: protected');
/** For the alert that tells the peer why. */
const FAREWELL_MS = 1_000;

/** A connection that protects what comes after a point, in both directions. */
export interface Protectable extends MessagePort {
  /**
   * From the call on what is sent is protected, and what comes after the messages that have been taken must be. When every `send` has resolved and no
   * `receive` is under way. The secrets are copied before it returns.
   */
  protect(secrets: TrafficSecrets): Promise<void>;
}

export interface Protection {
  /** For the further connections of the same migration; the owner wipes them. */
  readonly keys: SessionKeys;
  readonly peer: TlsPeer;
  readonly cipher: string;
}

/**
 * Protects a connection, within one limit of time. When it fails the connection is to be closed.
 * @throws MigrationError TLS_FAILED, NOT_AUTHORIZED, INTEGRITY_ERROR, CRYPTO_UNAVAILABLE, TIMEOUT, CANCELLED, or why the connection ended
 */
export async function protect(
  connection: Protectable,
  trust: Trust,
  clear: ClearHandshake,
  limits: HandshakeLimits,
): Promise<Protection> {
  const stream = new MessageStream(connection);
  stream.on('error', () => {}); // who waits for something is told
  const protecting = secure(connection, stream, trust, clear, limits);
  const waiting = { phase: 'negotiate', signal: limits.signal } as const;
  try {
    return await within(protecting, { ...waiting, what: 'the TLS handshake', timeoutMs: limits.timeoutMs });
  } catch (error) {
    const unused = ({ keys }: Protection): void => keys.wipe();
    protecting.then(unused, () => {});
    const said = { ...waiting, what: 'an alert to be sent', timeoutMs: FAREWELL_MS };
    await within(stream.flushed(), said).catch(() => {});
    throw toMigrationError(error, 'negotiate');
  } finally {
    stream.destroy();
  }
}

async function secure(
  connection: Protectable,
  stream: MessageStream,
  trust: Trust,
  clear: ClearHandshake,
  limits: HandshakeLimits,
): Promise<Protection> {
  const last = stream.pump(trust.watch?.begins);
  last.catch((error: unknown) => {
    const why = toMigrationError(error, 'negotiate');
    setImmediate(() => stream.destroy(why)); // what came before is read first
  });
  // A server that is told nothing has not even read its certificate.
  if (trust.role === 'server') await Promise.race([stream.begun, last]);
  const { keyingMaterial, peer, cipher } = await handshake(stream, trust, exporterOf(clear), limits);
  const keys = new SessionKeys(keyingMaterial, trust.role);
  try {
    const switched = trust.role === 'client' ? asClient : asServer;
    await switched(connection, stream, last, keys);
    return { keys, peer, cipher };
  } catch (error) {
    keys.wipe();
    throw error;
  }
}

async function asClient(
  connection: Protectable,
  stream: MessageStream,
  last: Promise<void>,
  keys: SessionKeys,
): Promise<void> {
  await stream.sayLast();
  await last;
  await protectBoth(connection, keys);
  await connection.send(CONFIRM);
  await confirmed(connection);
}

async function asServer(
  connection: Protectable,
  stream: MessageStream,
  last: Promise<void>,
  keys: SessionKeys,
): Promise<void> {
  await Promise.all([last, stream.flushed()]);
  await stream.sayLast();
  await protectBoth(connection, keys);
  await confirmed(connection);
  await connection.send(CONFIRM);
}

/** What comes of a peer that protects otherwise, or not at all. */
const NOT_OURS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'INTEGRITY_ERROR',
  'WIRE_ERROR',
  'CRC_ERROR',
  'MPA_ERROR',
  'TERMINATE_RECEIVED',
]);

/** @throws MigrationError INTEGRITY_ERROR: the peer has other keys; TLS_FAILED: it has gone; or why the connection ended */
async function confirmed(connection: Protectable): Promise<void> {
  let said: Uint8Array | null;
  try {
    said = await connection.receive();
  } catch (error) {
    const known = toMigrationError(error, 'negotiate');
    throw NOT_OURS.has(known.code) ? otherKeys(known) : known;
  }
  if (said === null)
    throw new MigrationError(
      'TLS_FAILED',
      'negotiate',
      'the peer ended the connection and has not confirmed the keys of the TLS handshake: its log says why',
    );
  if (!CONFIRM.equals(said)) throw otherKeys();
}

const otherKeys = (cause?: MigrationError): MigrationError =>
  new MigrationError(
    'INTEGRITY_ERROR',
    'negotiate',
    'what came first on the protected connection was not made with the keys of this end: somebody in between has changed what both said before, or ' +
      'speaks in the place of the peer',
    { cause },
  );

function protectBoth(connection: Protectable, keys: SessionKeys): Promise<void> {
  const secrets = keys.traffic(0);
  try {
    return connection.protect(secrets);
  } finally {
    wipe(secrets);
  }
}

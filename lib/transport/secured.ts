import type { NativeConnection } from '../native/transport.ts';
import { unpadded } from '../protocol/extension.ts';
import { isSoftwareRnic } from '../protocol/private-data.ts';
import { requireTls } from '../protocol/rejection.ts';
import type { Trust } from '../trust/handshake.ts';
import type { MessagePort } from '../trust/message-stream.ts';
import { type Protection, protect } from '../trust/protection.ts';
import { SealedMessages } from '../trust/sealed-messages.ts';
import type { ClearHandshake } from '../trust/session-keys.ts';
import { RecordPort } from './record-port.ts';

/** What TLS has made of a connection. */
export interface Secured extends Protection {
  /** Where its messages go and come from. */
  readonly port: MessagePort;
  /** All of it is in protected records, and so are its rails. False: its messages are sealed, and nothing else. */
  readonly encrypted: boolean;
}

interface Securing {
  /** The peer's private data. */
  readonly data: Uint8Array;
  readonly tls: Trust;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Protects a connection that has been established with `holdUntilProtected`: all of it between two of our software RNICs. A device puts its bytes on the
 * wire by itself, so with one at either end the messages are sealed, and RAM is in clear. Both ends know which it is: private data says whose RNIC it
 * comes from, and the keys depend on it.
 * @throws MigrationError TLS_REQUIRED, TLS_FAILED, NOT_AUTHORIZED, INTEGRITY_ERROR, TIMEOUT, CANCELLED, or why the connection ended
 */
export async function secured(
  connection: NativeConnection,
  { request, reply }: ClearHandshake,
  { data, tls, timeoutMs, signal }: Securing,
): Promise<Secured> {
  requireTls(reply);
  const encrypted = connection.info.provider === 'iwarp' && isSoftwareRnic(data);
  const records = new RecordPort(connection);
  const port = encrypted ? records : new SealedMessages(records);
  const clear = { request: unpadded(request), reply: unpadded(reply) };
  const protection = await protect(port, tls, clear, { timeoutMs, ...(signal && { signal }) });
  if (!encrypted) connection.resumeReceive(true);
  return { ...protection, port, encrypted };
}

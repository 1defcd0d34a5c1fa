/** The further queue pairs of a migration, as its source makes them: once it is connected, and before it says anything. */
import { setMaxListeners } from 'node:events';
import { type MigrationError, toMigrationError } from '../../errors.ts';
import { type Agreed, acceptRail, requestRail } from '../../protocol/capabilities.ts';
import type { Endpoint } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';
import { throwIfAborted } from '../../transport/wait.ts';

interface Settings {
  readonly endpoint: Endpoint;
  readonly agreed: Pick<Agreed, 'channels' | 'token'>;
  /** Connecting and the handshake of each, milliseconds. */
  readonly connectTimeoutMs: number;
  readonly signal: AbortSignal;
  readonly notice: (message: string) => void;
}

/**
 * Dials all rails that the destination granted, side by side. One that cannot be made is told of and left out: the migration goes on with
 * those that it has.
 * @throws MigrationError CANCELLED, or why the connection ended meanwhile
 */
export async function dialRails(connection: Connection, settings: Settings): Promise<void> {
  const { agreed, endpoint, connectTimeoutMs, notice } = settings;
  const { channels, token } = agreed;
  if (token === undefined) return;
  const signal = AbortSignal.any([settings.signal, connection.ended]);
  setMaxListeners(10 + channels, signal);
  const dial = async (index: number): Promise<void> => {
    const rail = { token, index };
    acceptRail(await connection.connectRail(endpoint, requestRail(rail), { connectTimeoutMs, signal }), rail);
  };
  const indexes = Array.from({ length: channels - 1 }, (_, i) => i + 1);
  const dialed = await Promise.allSettled(indexes.map(dial));
  throwIfAborted(signal, 'connect');
  const failures = dialed.flatMap((one) =>
    one.status === 'rejected' ? [toMigrationError(one.reason, 'connect')] : [],
  );
  if (failures[0]) notice(fewer(channels, channels - failures.length, failures[0]));
}

const fewer = (granted: number, made: number, { message }: MigrationError): string =>
  `only ${made} of ${granted} channels could be made, and the migration goes on with ${made === 1 ? 'that one' : 'those'}: ${message}`;

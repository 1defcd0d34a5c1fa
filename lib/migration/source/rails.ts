/** The further queue pairs of a migration, as its source makes them: once the destination has let it in, and before RAM moves. */
import { setMaxListeners } from 'node:events';
import { type MigrationError, toMigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import { acceptRail, requestRail } from '../../protocol/rail-request.ts';
import { parseRdmaUri } from '../../protocol/uri.ts';
import type { Endpoint } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';
import { GRACE_MS, throwIfAborted, within } from '../../transport/wait.ts';

interface Settings {
  /** Where the first connection was asked to go. */
  readonly endpoint: Endpoint;
  readonly agreed: Pick<Agreed, 'channels' | 'token'>;
  /** Connecting and the handshake of all of them, side by side, milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly notice: (message: string) => void;
}

/**
 * Dials all rails that the destination granted, side by side. One that cannot be made in time is told of and left out: the migration goes on
 * with those that it has.
 * @throws MigrationError CANCELLED, or why the connection ended meanwhile; PROTOCOL_ERROR: somebody else has answered one, which must carry nothing;
 * TIMEOUT: of one it is not known whether it comes up
 */
export async function dialRails(connection: Connection, settings: Settings): Promise<void> {
  const { agreed, timeoutMs, notice } = settings;
  const { channels, token } = agreed;
  if (token === undefined) return;
  const signal = AbortSignal.any([settings.signal, connection.ended]);
  setMaxListeners(10 + channels, signal);
  const endpoint = peerOf(connection) ?? settings.endpoint;
  const { keys } = connection;
  const rails = Array.from({ length: channels - 1 }, (_, at) => at + 1).map((index) => ({
    token: keys?.railToken(index) ?? token,
    index,
  }));
  const dialed = await within(
    Promise.allSettled(
      rails.map((rail) =>
        connection.rails.connect(endpoint, requestRail(rail), {
          index: rail.index,
          connectTimeoutMs: timeoutMs,
          signal,
        }),
      ),
    ),
    { phase: 'setup', timeoutMs: timeoutMs + GRACE_MS, signal, what: 'the further channels, made or not' },
  );
  throwIfAborted(signal, 'setup');
  const failures: MigrationError[] = [];
  for (const [at, rail] of rails.entries()) {
    const one = dialed[at] as PromiseSettledResult<Uint8Array>;
    if (one.status === 'fulfilled') acceptRail(one.value, rail);
    else failures.push(toMigrationError(one.reason, 'setup'));
  }
  if (failures[0]) notice(fewer(channels, channels - failures.length, failures[0]));
}

/** Who has answered the first connection: a name may lead to another host the next time. undefined: no address that can be dialled. */
function peerOf({ info }: Connection): Endpoint | undefined {
  try {
    return parseRdmaUri(`rdma:${info.peerAddress}`);
  } catch {
    return undefined; // that of a link, with its scope
  }
}

const fewer = (granted: number, made: number, { message }: MigrationError): string =>
  `only ${made} of ${granted} channels could be made, and the migration goes on with ${made === 1 ? 'that one' : 'those'}: ${message}`;

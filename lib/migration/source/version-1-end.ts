/**
 * The end of a migration to a version 1 destination. It says nothing when it has the VM: that it takes the last bytes and ends the connection in
 * good order is its only word. After a reset, a TERMINATE (a CRC error there is one), garbage or silence nobody knows who has the VM.
 *
 * On RDMA devices rdma_cm tells that the peer disconnected, and not whether its process did or its kernel when that died; a device that answers
 * no disconnect within two seconds is not waited for either. There the device's own acknowledgement of the last bytes stands for more.
 */
import { MigrationError } from '../../errors.ts';
import type { Connection } from '../../transport/connection.ts';

/**
 * Ends the connection, and waits for the destination to do so too.
 * @throws MigrationError why that was no orderly end; TIMEOUT when none came
 */
export async function awaitOrderlyEnd(connection: Connection, timeoutMs: number): Promise<void> {
  const began = performance.now();
  const { orderly, error } = await connection.disconnectAndWait({ timeoutMs });
  if (!orderly) throw error;
  // The provider gives a silent peer up after that time, and calls its own end orderly.
  if (performance.now() - began >= timeoutMs) throw silence(timeoutMs);
  // The READY for a message that need not come was on its way.
  const said = connection.unread.find(({ type }) => type !== 'READY');
  if (said) throw outOfTurn(said.type);
}

/** What is known after the last bytes when the end was not orderly: nothing. */
export function unconfirmedEnd(cause: unknown): MigrationError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MigrationError(
    'COMMIT_UNKNOWN',
    'device-state',
    `the connection did not end in good order after the last bytes (${why}), and this destination has no commit handshake: it may have started ` +
      'the VM. Look at the destination BEFORE the VM goes on at the source',
    { cause },
  );
}

function silence(timeoutMs: number): MigrationError {
  const message = `timed out after ${timeoutMs / 1000} s waiting for the destination to end the connection`;
  return new MigrationError('TIMEOUT', 'device-state', message, { details: { timeoutMs } });
}

function outOfTurn(type: string): MigrationError {
  const message = `the destination sent ${type} after the last bytes, where nothing was due`;
  return new MigrationError('PROTOCOL_ERROR', 'device-state', message, { details: { received: type } });
}

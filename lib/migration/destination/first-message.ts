/** What a source says first, and what is known of peers that say something else, or nothing. */
import { MigrationError, toMigrationError } from '../../errors.ts';
import type { ControlMessage } from '../../protocol/control.ts';
import { step } from './destination-machine.ts';

/**
 * What opens the VM's stream; it is carried out later.
 * @throws MigrationError PROTOCOL_ERROR: it is anything else
 */
export function requireFirst(message: ControlMessage): void {
  const { action } = step({ name: 'stream' }, message);
  const what = action.do === 'feed-stream' ? 'no beginning of a QEMU stream' : message.type;
  if (action.do === 'feed-stream' && beginsStream(action.bytes)) return;
  throw new MigrationError('PROTOCOL_ERROR', 'negotiate', `its first message is ${what}`);
}

/**
 * A QEMU with a return path opens a second connection for it before it says anything on the first (QEMU 7.2 with postcopy-ram or
 * dirty-bitmaps, from 8.0 on with return-path too), and gives up when it does not get one. Nothing else tells that at this end.
 */
export const wantedAnother = (error: unknown): MigrationError =>
  withHint(
    error,
    'Its host asked for a second connection before it said anything: if it is a QEMU, it has the capability return-path, postcopy-ram or ' +
      'dirty-bitmaps on, and waits there for answers that nothing here gives. Switch these off at the source',
  );

/** QEMU 7.2 with return-path connects, and gives up without a word. */
export const saidNothing = (error: unknown): MigrationError =>
  withHint(
    error,
    'It connected and said nothing: so does a QEMU 7.2 with the capability return-path on, which cannot migrate over RDMA then. Switch that ' +
      'capability off at the source',
  );

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

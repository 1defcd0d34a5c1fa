import { MigrationError } from '../errors.ts';
import { encodeCommit, encodeCommitted } from './commit.ts';
import {
  areDigests,
  CONTROL_HEADER_BYTES,
  CONTROL_MAX_BYTES,
  CONTROL_MAX_REPEAT,
  CONTROL_TYPE,
  type CompressCommand,
  type ControlMessage,
  DESCRIPTION_MAX_BYTES,
  type DestinationBlock,
  MOST_DIGESTS,
  type RegisterCommand,
  type RegisterResult,
} from './messages.ts';
import { encodeProgress } from './progress.ts';
import { encodeStatus } from './status.ts';
import { Writer } from './writer.ts';

/**
 * The bytes of one SEND. Throws INVALID_ARGUMENT for a message that the protocol cannot carry: no command or more than
 * {@link CONTROL_MAX_REPEAT}, an empty QEMU_FILE, more than {@link CONTROL_MAX_BYTES}, or a value beyond its field.
 */
export function encodeControl(message: ControlMessage): Uint8Array {
  const data = encodeData(message);
  if (data.length > CONTROL_MAX_BYTES - CONTROL_HEADER_BYTES) {
    throw unsendable(message, `its ${data.length} bytes of data do not fit in ${CONTROL_MAX_BYTES} bytes`);
  }
  return new Writer(CONTROL_HEADER_BYTES + data.length)
    .u32(data.length)
    .u32(CONTROL_TYPE[message.type])
    .u32(message.repeat ?? canonicalRepeat(message))
    .u32(message.padding ?? 0)
    .bytes(data)
    .finish();
}

/** The value of `repeat` that {@link encodeControl} writes when the message does not say otherwise. */
export function canonicalRepeat(message: ControlMessage): number {
  switch (message.type) {
    case 'REGISTER_REQUEST':
    case 'UNREGISTER_REQUEST':
      return message.commands.length;
    case 'REGISTER_RESULT':
      return message.results.length;
    default:
      return 1;
  }
}

function encodeData(message: ControlMessage): Uint8Array {
  switch (message.type) {
    case 'ERROR':
      return message.reason ?? new Uint8Array(0);
    case 'QEMU_FILE':
      if (message.bytes.length === 0) throw unsendable(message, 'it has no bytes');
      return message.bytes;
    case 'RAM_BLOCKS_RESULT':
      return encodeArray(message, message.blocks, writeBlock);
    case 'COMPRESS':
      return encodeCompress(message);
    case 'REGISTER_REQUEST':
    case 'UNREGISTER_REQUEST':
      return encodeArray(message, message.commands, writeCommand);
    case 'REGISTER_RESULT':
      return encodeArray(message, message.results, writeResult);
    case 'COMMIT':
      return encodeCommit(message);
    case 'COMMITTED':
      return encodeCommitted(message);
    case 'PROGRESS':
      return encodeProgress(message);
    case 'DESCRIPTION':
      if (message.bytes.length === 0 || message.bytes.length > DESCRIPTION_MAX_BYTES)
        throw unsendable(
          message,
          `it has ${message.bytes.length} bytes, expected 1 to ${DESCRIPTION_MAX_BYTES}`,
        );
      return message.bytes;
    case 'STATUS':
      return encodeStatus(message.status);
    case 'DIGESTS_REQUEST':
      return new Writer(24).u32(message.blockIndex).u32(0).u64(message.offset).u64(message.length).finish();
    case 'DIGESTS_RESULT':
      if (!areDigests(message.digests))
        throw unsendable(message, `it has ${message.digests.length} bytes, no 1 to ${MOST_DIGESTS} digests`);
      return message.digests;
    default:
      return new Uint8Array(0);
  }
}

function encodeArray<T>(
  message: ControlMessage,
  items: readonly T[],
  write: (writer: Writer, item: T) => void,
): Uint8Array {
  if (items.length < 1 || items.length > CONTROL_MAX_REPEAT) {
    throw unsendable(message, `it has ${items.length} entries, expected 1 to ${CONTROL_MAX_REPEAT}`);
  }
  const writer = new Writer(items.length * 32);
  for (const item of items) write(writer, item);
  return writer.finish();
}

function writeBlock(writer: Writer, block: DestinationBlock): void {
  writer.u64(block.hostAddress).u64(block.offset).u64(block.length);
  writer.u32(block.rkey).u32(block.padding ?? 0);
}

function writeCommand(writer: Writer, command: RegisterCommand): void {
  writer.u64(command.key).u32(command.blockIndex);
  writer.u32(command.padding ?? 0).u64(command.chunks);
}

function writeResult(writer: Writer, result: RegisterResult): void {
  writer
    .u32(result.rkey)
    .u32(result.padding ?? 0)
    .u64(result.hostAddress);
}

function encodeCompress(command: CompressCommand): Uint8Array {
  return new Writer(24)
    .u32(command.value)
    .u32(command.blockIndex)
    .u64(command.offset)
    .u64(command.length)
    .finish();
}

function unsendable(message: ControlMessage, why: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'ram', `Cannot encode ${message.type}: ${why}`);
}

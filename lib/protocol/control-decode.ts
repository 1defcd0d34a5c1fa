import { MigrationError, type Phase } from '../errors.ts';
import { decodeCommit, decodeCommitted } from './commit.ts';
import { canonicalRepeat } from './control-encode.ts';
import { Cursor } from './cursor.ts';
import {
  areDigests,
  CONTROL_HEADER_BYTES,
  CONTROL_MAX_BYTES,
  CONTROL_MAX_REPEAT,
  CONTROL_TYPE,
  type CompressCommand,
  type ControlMessage,
  type ControlType,
  DESCRIPTION_MAX_BYTES,
  type DestinationBlock,
  type DigestsRequest,
  MOST_DIGESTS,
  type RegisterCommand,
  type RegisterResult,
} from './messages.ts';
import { decodeProgress } from './progress.ts';
import { decodeStatus } from './status.ts';

const BLOCK_BYTES = 32;
const COMMAND_BYTES = 24;
const RESULT_BYTES = 16;

const TYPE_NAMES: ReadonlyMap<number, ControlType> = new Map(
  (Object.entries(CONTROL_TYPE) as [ControlType, number][]).map(([name, number]) => [number, name]),
);

interface Header {
  readonly type: ControlType;
  readonly repeat: number;
  readonly padding: number;
  readonly phase: Phase;
}

/**
 * Reads one SEND, which must be the message and nothing else: stock QEMU sends exactly header and data. Throws PROTOCOL_ERROR
 * for a wrong length, an unknown type, data where there must be none, and a `repeat` that contradicts the data.
 *
 * QUIRKs that are accepted, because QEMU does so: any `repeat` where the data is not an array (QEMU leaves it uninitialised);
 * RAM_BLOCKS_RESULT with `repeat` 1 for many blocks; REGISTER_RESULT with `repeat` n and the bytes of one result (`results` has
 * those that came, `repeat` the number given).
 *
 * `bytes` of a QEMU_FILE is a view of the input: copy it if the buffer is used again. `phase` goes into errors.
 */
export function decodeControl(bytes: Uint8Array, phase: Phase = 'ram'): ControlMessage {
  if (bytes.length > CONTROL_MAX_BYTES) {
    throw malformed(phase, `A control message of ${bytes.length} bytes, more than ${CONTROL_MAX_BYTES}`);
  }
  const cursor = new Cursor(bytes, 'Control message', phase);
  const length = cursor.u32();
  const type = typeName(cursor.u32(), phase);
  const header: Header = { type, repeat: cursor.u32(), padding: cursor.u32(), phase };
  if (length !== cursor.remaining) {
    throw malformed(phase, `${type} says ${length} bytes of data and comes with ${cursor.remaining}`);
  }
  return withRest(decodeData(header, bytes.subarray(CONTROL_HEADER_BYTES)), header);
}

/** Keeps the header fields that encoding would not write by itself. */
function withRest(message: ControlMessage, header: Header): ControlMessage {
  const repeat = header.repeat === canonicalRepeat(message) ? {} : { repeat: header.repeat };
  return { ...message, ...repeat, ...paddingOf(header.padding) };
}

function decodeData(header: Header, data: Uint8Array): ControlMessage {
  const { type, phase } = header;
  switch (type) {
    case 'ERROR':
      // It says that the peer has failed, whatever it carries.
      return data.length === 0 ? { type } : { type, reason: data };
    case 'QEMU_FILE':
      if (data.length === 0) throw malformed(phase, 'QEMU_FILE carries no bytes');
      return { type, bytes: data };
    case 'RAM_BLOCKS_RESULT':
      return { type, blocks: decodeArray(header, data, BLOCK_BYTES, [1], readBlock) };
    case 'COMPRESS':
      return { type, ...decodeCompress(header, data) };
    case 'REGISTER_REQUEST':
    case 'UNREGISTER_REQUEST':
      return { type, commands: decodeArray(header, data, COMMAND_BYTES, [], readCommand) };
    case 'REGISTER_RESULT':
      return { type, results: decodeResults(header, data) };
    case 'COMMIT':
      return { type, ...decodeCommit(data) };
    case 'COMMITTED':
      return { type, ...decodeCommitted(data) };
    case 'PROGRESS':
      return { type, ...decodeProgress(data) };
    case 'DESCRIPTION':
      if (data.length === 0 || data.length > DESCRIPTION_MAX_BYTES)
        throw malformed(
          phase,
          `DESCRIPTION carries ${data.length} bytes, expected 1 to ${DESCRIPTION_MAX_BYTES}`,
        );
      return { type, bytes: data };
    case 'STATUS':
      return { type, status: decodeStatus(data) };
    case 'DIGESTS_REQUEST':
      return { type, ...decodeDigestsRequest(header, data) };
    case 'DIGESTS_RESULT':
      if (!areDigests(data))
        throw malformed(
          phase,
          `DIGESTS_RESULT carries ${data.length} bytes, no 1 to ${MOST_DIGESTS} digests`,
        );
      return { type, digests: data };
    default:
      if (data.length > 0) throw malformed(phase, `${type} carries ${data.length} bytes, expected none`);
      return { type };
  }
}

function decodeDigestsRequest({ type, phase }: Header, data: Uint8Array): DigestsRequest {
  if (data.length !== 24) throw malformed(phase, `${type} carries ${data.length} bytes, expected 24`);
  const cursor = new Cursor(data, type, phase);
  const [blockIndex, padding] = [cursor.u32(), cursor.u32()];
  if (padding !== 0) throw malformed(phase, `${type} has ${padding} where 0 is due`);
  return { blockIndex, offset: cursor.u64(), length: cursor.u64() };
}

/** `alsoRepeat`: values of `repeat` that are accepted besides the number of entries. */
function decodeArray<T>(
  header: Header,
  data: Uint8Array,
  size: number,
  alsoRepeat: readonly number[],
  read: (cursor: Cursor) => T,
): T[] {
  const { type, repeat, phase } = header;
  const count = data.length / size;
  if (!Number.isInteger(count) || count < 1 || count > CONTROL_MAX_REPEAT) {
    throw malformed(
      phase,
      `${type} carries ${data.length} bytes, expected 1 to ${CONTROL_MAX_REPEAT} entries of ${size} bytes`,
    );
  }
  if (repeat !== count && !alsoRepeat.includes(repeat)) {
    throw malformed(phase, `${type} says ${repeat} entries and carries ${count}`);
  }
  const cursor = new Cursor(data, type, phase);
  return Array.from({ length: count }, () => read(cursor));
}

function decodeResults(header: Header, data: Uint8Array): RegisterResult[] {
  const { repeat } = header;
  const onlyFirst = data.length === RESULT_BYTES && repeat >= 1 && repeat <= CONTROL_MAX_REPEAT;
  return decodeArray(header, data, RESULT_BYTES, onlyFirst ? [repeat] : [], readResult);
}

function decodeCompress(header: Header, data: Uint8Array): CompressCommand {
  if (data.length !== COMMAND_BYTES || header.repeat !== 1) {
    throw malformed(
      header.phase,
      `COMPRESS says ${header.repeat} entries and carries ${data.length} bytes, expected 1 and ${COMMAND_BYTES}`,
    );
  }
  const cursor = new Cursor(data, 'COMPRESS', header.phase);
  return {
    value: cursor.u32(),
    blockIndex: cursor.u32(),
    offset: cursor.u64(),
    length: cursor.u64(),
  };
}

function readBlock(cursor: Cursor): DestinationBlock {
  const [hostAddress, offset, length] = [cursor.u64(), cursor.u64(), cursor.u64()];
  return { hostAddress, offset, length, rkey: cursor.u32(), ...paddingOf(cursor.u32()) };
}

function readCommand(cursor: Cursor): RegisterCommand {
  const [key, blockIndex, padding] = [cursor.u64(), cursor.u32(), cursor.u32()];
  return { key, blockIndex, chunks: cursor.u64(), ...paddingOf(padding) };
}

function readResult(cursor: Cursor): RegisterResult {
  const [rkey, padding] = [cursor.u32(), cursor.u32()];
  return { rkey, hostAddress: cursor.u64(), ...paddingOf(padding) };
}

function paddingOf(padding: number): { padding?: number } {
  return padding === 0 ? {} : { padding };
}

function typeName(number: number, phase: Phase): ControlType {
  const name = TYPE_NAMES.get(number);
  if (name === undefined) throw malformed(phase, `Unknown control message type ${number}`, { type: number });
  return name;
}

function malformed(phase: Phase, message: string, details = {}): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    phase,
    `${message}. The peer does not speak version 1 of QEMU's RDMA migration protocol, or its message was damaged`,
    { details },
  );
}

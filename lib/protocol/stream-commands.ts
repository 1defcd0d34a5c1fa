/**
 * COMMAND sections (type u8, command u16, length u16, data): what the source says to the other end of a two-way channel. We never
 * answer, so all but one are refused, naming the capability that makes QEMU send them.
 */
import { SECTION } from './stream-format.ts';
import type { Step, StreamReader } from './stream-reader.ts';

/** QEMU's numbers (enum qemu_vm_cmd). */
const COMMAND = {
  OPEN_RETURN_PATH: 1,
  PING: 2,
  POSTCOPY_ADVISE: 3,
  ENABLE_COLO: 8,
  /** The source stops its VM now; device state in other channels waits for that, and there are no such channels here. No data. */
  SWITCHOVER_START: 11,
} as const;

const PING_BYTES = 4;

/** Why even a complete stream is refused: its VM may go on running where it came from. */
const WAITS =
  'With it QEMU waits at the end for an answer, which nothing here gives: its VM stays paused until the migration is cancelled, ' +
  'and then runs on there. Switch that capability off';

/**
 * Reads the COMMAND sections here, if any, and leaves them out of the recording. A return path alone is distinguished from one that
 * another capability opens by what follows.
 */
export function* skipCommands(reader: StreamReader): Step<void> {
  while ((yield* reader.peek()) === SECTION.COMMAND) {
    const mark = reader.recording.mark();
    yield* reader.u8();
    const command = yield* reader.u16();
    const length = yield* reader.u16();
    if (opensReturnPath(command, length)) {
      yield* reader.bytes(length);
      // Over RDMA, QEMU 7.2 itself gives up here.
      reader.suspicion = reader.error(`a sign of the capability return-path. ${WAITS}`);
    } else if (command !== COMMAND.SWITCHOVER_START || length !== 0) {
      refuse(reader, command, length);
    }
    reader.recording.omitSince(mark);
  }
  if (reader.suspicion) throw reader.suspicion;
}

function opensReturnPath(command: number, length: number): boolean {
  if (command === COMMAND.OPEN_RETURN_PATH) return length === 0;
  return command === COMMAND.PING && length === PING_BYTES;
}

function refuse(reader: StreamReader, command: number, length: number): never {
  const capability = capabilityOf(command, length);
  if (capability !== undefined) reader.fail(`a sign of the capability ${capability}. ${WAITS}`);
  return reader.fail(`the command ${command} with ${length} bytes, which only another QEMU can carry out`);
}

function capabilityOf(command: number, length: number): string | undefined {
  if (command === COMMAND.ENABLE_COLO) return 'x-colo';
  if (command !== COMMAND.POSTCOPY_ADVISE) return undefined;
  // Without page sizes no RAM comes after the switch, only bitmaps of disks.
  return length === 0 ? 'dirty-bitmaps' : 'postcopy-ram';
}

/** The beginning of the stream: magic, version, CONFIGURATION with its subsections. */
import { MigrationError } from '../errors.ts';
import {
  CAPABILITY_IGNORE_SHARED,
  DEFAULT_PAGE_SIZE,
  SECTION,
  STREAM_MAGIC,
  STREAM_VERSION,
  SUBSECTION_CAPABILITIES,
  SUBSECTION_PAGE_BITS,
  SUBSECTION_UUID,
} from './stream-format.ts';
import { type Step, StreamReader } from './stream-reader.ts';

/** QEMU's machine types have some 20 characters; 255 is the limit of its other names. */
const MACHINE_NAME_MAX = 255;
/** The flags of a ram section take the 10 low bits of an address; 64 KiB is the largest page of any target. */
const PAGE_BITS_MIN = 10;
const PAGE_BITS_MAX = 16;
const SUBSECTION_VERSION = 1;

export interface StreamConfiguration {
  /** QEMU machine type such as `pc-i440fx-7.2`. */
  readonly machine: string;
  /** Of the subsection `configuration/capabilities`: those that change the stream. Empty or x-ignore-shared. */
  readonly capabilities: readonly string[];
  /** Bytes, from the subsection `configuration/target-page-bits`, else 4096. */
  readonly pageSize: number;
}

type Subsections = { capabilities?: readonly string[]; pageSize?: number; uuid?: Uint8Array };

const UUID_BYTES = 16;

/** Reads up to the next section's type byte, which it leaves. */
export function* readConfiguration(reader: StreamReader): Step<StreamConfiguration> {
  const machine = yield* readMachine(reader);
  const found: Subsections = {};
  while ((yield* reader.peek()) === SECTION.SUBSECTION) yield* readSubsection(reader, found);
  return configuration(machine, found);
}

/**
 * Reads the stream before a ram section, whole: `before` of a VM. Throws STREAM_ERROR for anything else, such as a
 * COMMAND section after it, and STREAM_TRUNCATED when it is too short.
 */
export function parseConfiguration(before: Uint8Array): StreamConfiguration {
  const reader = new StreamReader();
  reader.queue.push(before);
  const machine = finish(readMachine(reader), before.length);
  const found: Subsections = {};
  while (reader.queue.length > 0) {
    const type = reader.queue.first();
    if (type !== SECTION.SUBSECTION) reader.fail(`byte ${type} after the configuration, which must end here`);
    finish(readSubsection(reader, found), before.length);
  }
  return configuration(machine, found);
}

function finish<T>(step: Step<T>, length: number): T {
  const result = step.next();
  if (result.done) return result.value;
  throw new MigrationError(
    'STREAM_TRUNCATED',
    'setup',
    `The migration stream before its ram section ends too early, after ${length} bytes`,
  );
}

function configuration(machine: string, found: Subsections): StreamConfiguration {
  const { capabilities = [], pageSize = DEFAULT_PAGE_SIZE } = found;
  return { machine, capabilities, pageSize };
}

/** Magic, version, and CONFIGURATION without its subsections. */
function* readMachine(reader: StreamReader): Step<string> {
  const magic = yield* reader.u32();
  if (magic !== STREAM_MAGIC) reader.fail(`the magic 0x${magic.toString(16)}, expected QEVM`);
  const version = yield* reader.u32();
  if (version !== STREAM_VERSION) reader.fail(`version ${version}, expected ${STREAM_VERSION}`);
  const type = yield* reader.u8();
  if (type !== SECTION.CONFIGURATION) {
    reader.fail(
      `section type ${type} where its CONFIGURATION must be; a machine type that leaves it out (send-configuration=off) cannot be migrated by this program`,
    );
  }
  const length = yield* reader.u32();
  if (length > MACHINE_NAME_MAX) {
    reader.fail(`a machine name of ${length} bytes, more than ${MACHINE_NAME_MAX}`);
  }
  return yield* reader.name(length, 'machine name');
}

function* readSubsection(reader: StreamReader, found: Subsections): Step<void> {
  const mark = reader.recording.mark();
  yield* reader.u8();
  const name = yield* reader.countedName('subsection name');
  const version = yield* reader.u32();
  if (version !== SUBSECTION_VERSION) reader.fail(`version ${version} of ${name}, expected 1`);
  if (name === SUBSECTION_CAPABILITIES && found.capabilities === undefined) {
    found.capabilities = yield* readCapabilities(reader);
    reader.recording.omitSince(mark);
  } else if (name === SUBSECTION_UUID && found.uuid === undefined) {
    // For a destination that was told which VM to expect (validate-uuid); others would refuse it.
    found.uuid = yield* reader.bytes(UUID_BYTES);
    reader.recording.omitSince(mark);
  } else if (name === SUBSECTION_PAGE_BITS && found.pageSize === undefined) {
    found.pageSize = yield* readPageSize(reader);
  } else {
    reader.fail(`the subsection ${name}, which is not supported here or came twice`);
  }
}

function* readCapabilities(reader: StreamReader): Step<readonly string[]> {
  const count = yield* reader.u32();
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const name = yield* reader.countedName('capability');
    // Others, such as mapped-ram, change the form of the ram section. Accepting only one also bounds the list.
    if (name !== CAPABILITY_IGNORE_SHARED || names.includes(name)) {
      reader.fail(`the capability ${name}, which is not supported here or came twice: switch it off`);
    }
    names.push(name);
  }
  return names;
}

function* readPageSize(reader: StreamReader): Step<number> {
  const bits = yield* reader.u32();
  if (bits < PAGE_BITS_MIN || bits > PAGE_BITS_MAX) {
    reader.fail(`pages of 2^${bits} bytes, expected 2^${PAGE_BITS_MIN} to 2^${PAGE_BITS_MAX}`);
  }
  return 2 ** bits;
}

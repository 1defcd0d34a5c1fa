/**
 * QEMU's migration stream, parsed as far as it can be without QEMU: up to the end of the ram section.
 *
 *     QEVM 3 | CONFIGURATION | START ram ... | PART ram ... (any number) | END ram ... | device state
 *
 * A section other than ram before the END of ram is refused: its body has no length and only QEMU can read it. COMMAND
 * sections are refused too, except the one that announces the switch-over, which is skipped (stream-commands.ts).
 */
import { MigrationError } from '../errors.ts';
import type { RamBlockLayout, RamSection } from '../ram/vm.ts';
import { skipCommands } from './stream-commands.ts';
import { readConfiguration, type StreamConfiguration } from './stream-configuration.ts';
import {
  CAPABILITY_IGNORE_SHARED,
  RAM_SECTION_NAME,
  RAM_SECTION_VERSION,
  SECTION,
  type StreamForm,
} from './stream-format.ts';
import { readBlocks, readFlag } from './stream-ram.ts';
import { type Step, StreamReader } from './stream-reader.ts';

/** Which of the ram sections. */
export type RamSectionKind = 'start' | 'part' | 'end';

export type StreamEvent =
  | ({ readonly type: 'configuration' } & StreamConfiguration)
  /** All blocks are known; `before` is available from here on. */
  | { readonly type: 'ram-start'; readonly section: RamSection; readonly blocks: readonly RamBlockLayout[] }
  /** Form `rdma`: serve control messages until REGISTER_FINISHED, then go on. */
  | { readonly type: 'hook'; readonly section: RamSectionKind }
  /**
   * Form `pages`: page records begin here. Take {@link StreamParser.takeBuffered}, feed it and what follows to the page
   * reader up to and including EOS, push what is left, go on.
   */
  | { readonly type: 'pages'; readonly section: 'part' | 'end' }
  /** After the FOOTER of ram's END. {@link StreamParser.takeBuffered} begins the device state. */
  | { readonly type: 'ram-end' };

type Events = Step<void, StreamEvent>;

/** Sections that a capability adds. */
const CAPABILITY_OF_SECTION = new Map([
  ['block', 'block'],
  ['dirty-bitmap', 'dirty-bitmaps'],
]);

/**
 * Pull parser: `push()` bytes as they arrive, call `next()` until it returns `undefined` (more bytes are needed). It holds what
 * was pushed and not read, and nothing of the ram sections. After an error every call of `next()` throws the same error.
 */
export class StreamParser {
  readonly #form: StreamForm;
  readonly #reader = new StreamReader();
  readonly #steps: Events;
  #before: Uint8Array | undefined;
  #handingOver = false;
  #finished = false;
  #failure: unknown;

  constructor(form: StreamForm) {
    this.#form = form;
    this.#steps = this.#parse();
  }

  /** Adds bytes of the stream; they are copied. */
  push(bytes: Uint8Array): void {
    this.#reader.queue.push(bytes);
  }

  /** The next event, or `undefined` until more bytes are pushed. Throws STREAM_ERROR. */
  next(): StreamEvent | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#handingOver && !this.#finished) throw misuse('next() before takeBuffered() at a pages event');
    try {
      const step = this.#steps.next();
      return step.done ? undefined : step.value;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** Why the stream cannot be read further, if nothing more comes and more is known than that it is cut short. */
  get suspicion(): MigrationError | undefined {
    return this.#reader.suspicion;
  }

  /** What was pushed and not read: after a `pages` event the first page records, after `ram-end` the device state. */
  takeBuffered(): Uint8Array {
    if (!this.#handingOver) throw misuse('takeBuffered() at no pages or ram-end event');
    this.#handingOver = this.#finished;
    return this.#reader.queue.take(this.#reader.queue.length);
  }

  /**
   * The stream before the ram section in its normal form: without the capabilities subsection (a peer that did not set the
   * same ones refuses it; {@link withCapabilities} puts it back) and without COMMAND sections. Available from `ram-start` on.
   */
  get before(): Uint8Array {
    if (this.#before === undefined)
      throw misuse('the bytes before the ram section before the ram-start event');
    return this.#before;
  }

  *#parse(): Events {
    const configuration = yield* readConfiguration(this.#reader);
    yield { type: 'configuration', ...configuration };
    yield* skipCommands(this.#reader);
    this.#reader.recordingOn = false;
    this.#before = this.#reader.recording.bytes();
    const section = yield* this.#start(configuration);
    this.#reader.phase = 'ram';
    while ((yield* this.#round(section)) !== 'end');
    this.#finished = true;
    this.#handingOver = true;
    yield { type: 'ram-end' };
  }

  *#start(configuration: StreamConfiguration): Step<RamSection, StreamEvent> {
    const section = yield* this.#startHeader();
    const guestAddresses = configuration.capabilities.includes(CAPABILITY_IGNORE_SHARED);
    const { pageSize } = configuration;
    const blocks = yield* readBlocks(this.#reader, { pageSize, guestAddresses });
    yield { type: 'ram-start', section, blocks };
    if (this.#form === 'rdma') yield* this.#hook('start');
    else yield* readFlag(this.#reader, 'EOS');
    yield* this.#footer(section);
    return section;
  }

  *#startHeader(): Step<RamSection> {
    const type = yield* this.#reader.u8();
    if (type !== SECTION.START && type !== SECTION.FULL) return this.#unexpected(type);
    const sectionId = yield* this.#reader.u32();
    const name = yield* this.#reader.countedName('section name');
    const instanceId = yield* this.#reader.u32();
    const version = yield* this.#reader.u32();
    if (type !== SECTION.START || name !== RAM_SECTION_NAME) return this.#foreign(name);
    if (version !== RAM_SECTION_VERSION) {
      this.#reader.fail(`version ${version} of the ram section, expected ${RAM_SECTION_VERSION}`);
    }
    return { sectionId, instanceId };
  }

  *#round(section: RamSection): Step<'part' | 'end', StreamEvent> {
    yield* skipCommands(this.#reader);
    const type = yield* this.#reader.u8();
    if (type === SECTION.START || type === SECTION.FULL) {
      yield* this.#reader.u32();
      const name = yield* this.#reader.countedName('section name');
      return type === SECTION.FULL ? this.#early(name) : this.#foreign(name);
    }
    if (type !== SECTION.PART && type !== SECTION.END) return this.#unexpected(type);
    const id = yield* this.#reader.u32();
    if (id !== section.sectionId) {
      this.#reader.fail(`a part of section ${id}, expected ram (${section.sectionId})`);
    }
    const kind = type === SECTION.PART ? 'part' : 'end';
    if (this.#form === 'rdma') yield* this.#hook(kind);
    else yield* this.#pages(kind);
    yield* this.#footer(section);
    return kind;
  }

  *#hook(section: RamSectionKind): Events {
    yield* readFlag(this.#reader, 'HOOK');
    yield { type: 'hook', section };
    yield* readFlag(this.#reader, 'EOS');
  }

  *#pages(section: 'part' | 'end'): Events {
    this.#handingOver = true;
    yield { type: 'pages', section };
  }

  *#footer(section: RamSection): Step<void> {
    const type = yield* this.#reader.u8();
    if (type !== SECTION.FOOTER) {
      this.#reader.fail(
        `byte ${type} where the footer of its ram section must be; a machine type without footers (older than 2.4) cannot be migrated by this program`,
      );
    }
    const id = yield* this.#reader.u32();
    if (id !== section.sectionId) {
      this.#reader.fail(`the footer of section ${id}, expected ram (${section.sectionId})`);
    }
  }

  #unexpected(type: number): never {
    const name = Object.entries(SECTION).find(([, number]) => number === type)?.[0] ?? 'unknown';
    return this.#reader.fail(`section type ${type} (${name}) before the end of its ram section`);
  }

  #foreign(name: string): never {
    const capability = CAPABILITY_OF_SECTION.get(name);
    const remedy =
      capability === undefined
        ? 'remove that device, or stop that feature, before migrating'
        : `switch the capability ${capability} off`;
    return this.#reader.fail(
      `the section ${name} before the end of its ram section. Only QEMU can read it: ${remedy}`,
      { section: name },
    );
  }

  /** Devices come after RAM, unless the guest ran on while its RAM was saved. */
  #early(name: string): never {
    return this.#reader.fail(
      `the device ${name} before the end of its ram section, as a snapshot of a running guest has it: switch the capability background-snapshot off`,
      { section: name },
    );
  }
}

function misuse(what: string): MigrationError {
  return new MigrationError('INTERNAL', 'ram', `The stream parser was asked for ${what}`);
}

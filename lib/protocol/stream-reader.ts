import { MigrationError, type Phase } from '../errors.ts';
import { ByteQueue } from './byte-queue.ts';
import { StreamRecording } from './stream-recording.ts';

/** Most bytes before the ram section. QEMU writes about 100; the bound keeps a peer from filling our memory with commands. */
const RECORDED_MAX_BYTES = 64 * 1024;

/**
 * A step of the parser: a generator that yields `undefined` when it needs more bytes to go on, events
 * otherwise, and returns what it has read. So the grammar reads from top to bottom while bytes arrive in pieces of any size.
 */
export type Step<Result, Event = never> = Generator<Event | undefined, Result, void>;

/** Reads fields of the stream from what has been pushed, and waits for what has not. */
export class StreamReader {
  readonly queue = new ByteQueue();
  /** The phase that errors name. */
  phase: Phase = 'setup';
  /** Bytes of the stream read so far, for errors. */
  position = 0;
  /** What is wrong with the stream if nothing more comes; what comes next would tell more exactly. */
  suspicion: MigrationError | undefined;
  /** Gets what is read while `recordingOn`. */
  readonly recording = new StreamRecording();
  recordingOn = true;

  /** Waits for one byte and leaves it there. */
  *peek(): Step<number> {
    while (this.queue.length === 0) yield undefined;
    return this.queue.first();
  }

  *bytes(length: number): Step<Uint8Array> {
    while (this.queue.length < length) yield undefined;
    const taken = this.queue.take(length);
    this.position += length;
    if (this.recordingOn) this.#record(taken);
    return taken;
  }

  *u8(): Step<number> {
    return (yield* this.bytes(1))[0] as number;
  }

  *u16(): Step<number> {
    return view(yield* this.bytes(2)).getUint16(0);
  }

  *u32(): Step<number> {
    return view(yield* this.bytes(4)).getUint32(0);
  }

  *u64(): Step<bigint> {
    return view(yield* this.bytes(8)).getBigUint64(0);
  }

  /** A name of `length` bytes, 1 or more, all printable ASCII: QEMU makes no others, and they end up in messages and files. */
  *name(length: number, what: string): Step<string> {
    if (length === 0) this.fail(`an empty ${what}`);
    const bytes = yield* this.bytes(length);
    if (bytes.some((byte) => byte < 0x20 || byte > 0x7e)) this.fail(`a ${what} with unprintable bytes`);
    return String.fromCharCode(...bytes);
  }

  /** A name with its length, u8, before it. */
  *countedName(what: string): Step<string> {
    return yield* this.name(yield* this.u8(), what);
  }

  #record(bytes: Uint8Array): void {
    this.recording.add(bytes);
    if (this.recording.size > RECORDED_MAX_BYTES) {
      this.fail(`more than ${RECORDED_MAX_BYTES} bytes before its ram section`);
    }
  }

  /** STREAM_ERROR. `found` completes "The migration stream has ... before byte N". */
  error(found: string, details: Record<string, string | number | bigint> = {}): MigrationError {
    return new MigrationError(
      'STREAM_ERROR',
      this.phase,
      `The migration stream has ${found} (before byte ${this.position})`,
      { details: { position: this.position, ...details } },
    );
  }

  /** Throws {@link error}. */
  fail(found: string, details: Record<string, string | number | bigint> = {}): never {
    throw this.error(found, details);
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

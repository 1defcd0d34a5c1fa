import type { NativeVerbsRegion } from '../native/verbs.ts';
import { integer } from './checks.ts';
import { closedError } from './failure.ts';
import type { Access } from './options.ts';
import { unpinBuffer } from './registered-buffer.ts';
import type { LocalBuffer } from './work-request.ts';

type OnClosed = (region: MemoryRegion) => void;

let make: (
  native: NativeVerbsRegion,
  memory: Uint8Array,
  access: Readonly<Required<Access>>,
  onClosed: OnClosed,
) => MemoryRegion;

/** Registered memory of a {@link Domain}: `domain.registerMemory()`. The bytes are kept alive and where they are until `close()`. */
export class MemoryRegion implements AsyncDisposable {
  /** The bytes. Copy what a peer may still write before you judge it: it may change between two looks. */
  readonly memory: Uint8Array;
  /** Of the first byte, as work requests of both sides name it. */
  readonly addr: bigint;
  /** Bytes. */
  readonly length: number;
  /** For the `lkey` of work requests of this side. */
  readonly lkey: number;
  readonly access: Readonly<Required<Access>>;
  readonly #native: NativeVerbsRegion;
  readonly #onClosed: OnClosed;
  #closing: Promise<void> | undefined;

  static {
    make = (native, memory, access, onClosed) => new MemoryRegion(native, memory, access, onClosed);
  }

  private constructor(
    native: NativeVerbsRegion,
    memory: Uint8Array,
    access: Readonly<Required<Access>>,
    onClosed: OnClosed,
  ) {
    this.#native = native;
    this.#onClosed = onClosed;
    this.memory = memory;
    this.access = access;
    this.addr = native.addr;
    this.length = memory.byteLength;
    this.lkey = native.lkey;
  }

  /**
   * For the peer, if it has rights. Whoever knows it may use all of the region. With the provider `verbs` it is right from `domain.bind()` or
   * the first established connection of the domain on: rdma_cm finds the device with it. 0 before.
   */
  get rkey(): number {
    return this.#native.rkey;
  }

  /**
   * A piece of it for a work request: `{ opcode: 'SEND', ...region.range(0, 64) }`. Default: all, or all from `offset` on.
   * @throws MigrationError INVALID_ARGUMENT, CLOSED
   */
  range(offset = 0, length: number = this.length - offset): LocalBuffer {
    if (this.#closing !== undefined) throw closedError('the memory region');
    integer(offset, 0, this.length, 'offset');
    integer(length, 0, this.length - offset, 'length');
    return { addr: this.addr + BigInt(offset), length, lkey: this.lkey };
  }

  /**
   * Deregisters. When it has resolved, provider and peers touch the bytes no more; a peer that still uses the rkey, and a work request that
   * is still outstanding, end their queue pair. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#native.close().finally(() => {
      unpinBuffer(this.memory.buffer);
      this.#onClosed(this);
    });
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** For {@link Domain.registerMemory}. */
export const makeRegion: typeof make = (...given) => make(...given);

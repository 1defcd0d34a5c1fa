import { type MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeMapping } from '../native/memory.ts';

/**
 * Memory of a RAM block: mapped, never copied. Its owner closes it when no migration uses it any more; then every operation is refused with
 * CLOSED, and the properties stay. Made by {@link mapMemfd}, {@link mapFile} and {@link mapCaller} alone.
 */
export interface Mapping {
  readonly kind: 'memfd' | 'file' | 'caller';
  /** In this process. */
  readonly address: bigint;
  /** Bytes, a multiple of `pageSize`. */
  readonly length: bigint;
  /** Bytes. */
  readonly pageSize: number;
  /**
   * Touches pages ahead of use, so that receiving into them does not fault. Changes no byte. `keepFree` (default false): ends early, and without
   * an error, where more than a quarter of what its file system has free would be taken at once. Rejects with DISK_FULL, OUT_OF_MEMORY, IO_ERROR,
   * CANCELLED (closed meanwhile).
   */
  populate(offset: bigint, length: bigint, keepFree?: boolean): Promise<void>;
  /**
   * Makes a range zero, of any alignment, without touching what is zero already. `mayPunch`: the pages may be given back; never while a NIC
   * pins them. Rejects with DISK_FULL, IO_ERROR, CANCELLED.
   */
  zero(offset: bigint, length: bigint, mayPunch: boolean): Promise<void>;
  /** 256 bits over the whole content as 64 hex digits; holes count as zeros. An integrity check, not a cryptographic hash. */
  digest(): Promise<string>;
  /** Makes written pages durable (files). */
  sync(): Promise<void>;
  /** Cancels what is under way where that can be, and unmaps. Idempotent. */
  close(): Promise<void>;
  /** @internal */
  readonly digested: bigint;
  /** @internal */
  readonly fillsThroughFile: boolean;
  /** @internal */
  digestChunks: NativeMapping['digestChunks'];
  /** @internal */
  classify: NativeMapping['classify'];
}

/**
 * A new memfd of `length` bytes (a multiple of the page size), sparse. `hugePageSize` in bytes uses huge pages of that size.
 * @throws MigrationError INVALID_ARGUMENT, OUT_OF_MEMORY
 */
export function mapMemfd(options: { name: string; length: bigint; hugePageSize?: number }): Promise<Mapping> {
  return native.mapMemfd(options).catch(rethrow);
}

/**
 * A file, possibly on hugetlbfs. `create`: it must not exist and is made sparse; `write`, `read`: it has at least `length` bytes.
 * @throws MigrationError INVALID_ARGUMENT, PERMISSION_DENIED, DISK_FULL, OUT_OF_MEMORY, IO_ERROR
 */
export function mapFile(options: {
  path: string;
  length: bigint;
  mode: 'create' | 'write' | 'read';
}): Promise<Mapping> {
  return native.mapFile(options).catch(rethrow);
}

/**
 * A range of this process that the embedder has mapped, such as its guest's RAM. It must stay mapped until the mapping is closed. `fd`: the
 * file of a shared range; only with it are its holes known, so that a sparse VM costs what it uses. `coreDumps` false:
 * the range goes into no core dump from here on, as what is mapped here never does; by default it stays as the embedder has it.
 * @throws MigrationError INVALID_ARGUMENT
 */
export function mapCaller(options: {
  address: bigint;
  length: bigint;
  fd?: number;
  coreDumps?: boolean;
}): Promise<Mapping> {
  return native.mapCaller(options).catch(rethrow);
}

function rethrow(error: unknown): never {
  const failure: MigrationError = toMigrationError(error, 'configure');
  throw failure;
}

import { type MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeMapping } from '../native/memory.ts';

/** Memory of a RAM block: mapped, never copied. Its owner closes it once no migration uses it. */
export type Mapping = NativeMapping;

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
 * file of a shared range; only with it are its holes known, so that a sparse VM costs what it uses.
 * @throws MigrationError INVALID_ARGUMENT
 */
export function mapCaller(options: { address: bigint; length: bigint; fd?: number }): Promise<Mapping> {
  return native.mapCaller(options).catch(rethrow);
}

function rethrow(error: unknown): never {
  const failure: MigrationError = toMigrationError(error, 'configure');
  throw failure;
}

import { type ErrorCode, type ErrorDetails, MigrationError } from '../errors.ts';

const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EFBIG: 'DISK_FULL',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  EROFS: 'PERMISSION_DENIED',
  ENOMEM: 'OUT_OF_MEMORY',
  EMFILE: 'RESOURCE_LIMIT',
  ENFILE: 'RESOURCE_LIMIT',
  EPIPE: 'CONNECTION_CLOSED',
};

/** Codes that the native core raises; any other `code` is an errno from Node. */
const NATIVE_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'INVALID_ARGUMENT',
  'CLOSED',
  'CANCELLED',
  'PERMISSION_DENIED',
  'STREAM_ERROR',
  'STREAM_TRUNCATED',
  'BLOCK_MISMATCH',
  'OUT_OF_MEMORY',
  'RESOURCE_LIMIT',
  'LOCKED_MEMORY_LIMIT',
  'DISK_FULL',
  'IO_ERROR',
  'INTERNAL',
]);

const REMEDY: Readonly<Partial<Record<ErrorCode, string>>> = {
  DISK_FULL: 'free space there or name another directory',
  PERMISSION_DENIED: 'check owner and mode of that path and of the directories above it',
  OUT_OF_MEMORY: 'the kernel lets this process map no more: see `ulimit -v` and vm.overcommit_memory',
};

/** The `code` of any error object. */
export function codeOf(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/**
 * Turns what a system call, Node or the addon threw into a {@link MigrationError} of phase `image`. `action` says what was
 * tried, such as `writing /vm/1/after.bin`. A MigrationError stays as it is.
 */
export function imageError(error: unknown, action: string, details: ErrorDetails = {}): MigrationError {
  if (error instanceof MigrationError) return error;
  const given = codeOf(error) ?? '';
  const code = NATIVE_CODES.has(given) ? (given as ErrorCode) : (CODE_OF_ERRNO[given] ?? 'IO_ERROR');
  const reason = error instanceof Error ? error.message : String(error);
  const remedy = REMEDY[code];
  const message = `${action} failed: ${reason}${remedy === undefined ? '' : `; ${remedy}`}`;
  return new MigrationError(code, 'image', message, { cause: error, details });
}

/** Runs `work`, and makes whatever it throws an {@link imageError}. */
export async function during<T>(action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw imageError(error, action);
  }
}

/** @throws MigrationError CANCELLED once the signal is aborted; its reason is the cause. */
export function throwIfAborted(signal: AbortSignal | undefined, action: string): void {
  if (signal?.aborted) throw cancelled(action, signal);
}

export function cancelled(action: string, signal: AbortSignal | undefined): MigrationError {
  return new MigrationError('CANCELLED', 'image', `${action} was cancelled`, { cause: signal?.reason });
}

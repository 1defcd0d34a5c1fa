export const PHASES = [
  'configure',
  'listen',
  'connect',
  'negotiate',
  'setup',
  'ram',
  'device-state',
  'commit',
  'close',
  'image',
  'verbs',
] as const;

/** Where in a migration an error happened. */
export type Phase = (typeof PHASES)[number];

/**
 * Every code that a {@link MigrationError} can carry. Codes are stable: programs may rely on them.
 * The exit code of the command for each is in `docs/errors.md`.
 */
export const ERROR_CODES = [
  // What the caller asked for
  'INVALID_ARGUMENT',
  'INVALID_URI',
  'CANCELLED',
  'CLOSED',
  // Reaching the peer
  'ADDRESS_IN_USE',
  'ADDRESS_NOT_FOUND',
  'PERMISSION_DENIED',
  'LISTEN_FAILED',
  'CONNECTION_REFUSED',
  'CONNECT_FAILED',
  'REJECTED',
  'BUSY',
  'TIMEOUT',
  'CONNECTION_CLOSED',
  'CONNECTION_LOST',
  // Who the peer is
  'CREDENTIALS_INVALID',
  'TLS_REQUIRED',
  'TLS_FAILED',
  'NOT_AUTHORIZED',
  // The wire (MPA, DDP, RDMAP)
  'MPA_ERROR',
  'CRC_ERROR',
  'INTEGRITY_ERROR',
  'TERMINATE_RECEIVED',
  'REMOTE_ACCESS_ERROR',
  'WIRE_ERROR',
  // QEMU's protocol
  'VERSION_MISMATCH',
  'PROTOCOL_ERROR',
  'PEER_ERROR',
  'BLOCK_MISMATCH',
  'STREAM_ERROR',
  'STREAM_TRUNCATED',
  'COMMIT_MISMATCH',
  'COMMIT_UNKNOWN',
  'ALREADY_MOVED',
  // The running guest
  'NOT_CONVERGED',
  'GUEST_ERROR',
  // This machine
  'PROVIDER_UNAVAILABLE',
  'TRACKER_UNAVAILABLE',
  'CRYPTO_UNAVAILABLE',
  'REGISTER_FAILED',
  'LOCKED_MEMORY_LIMIT',
  'OUT_OF_MEMORY',
  'RESOURCE_LIMIT',
  'DISK_FULL',
  'IO_ERROR',
  // Images
  'IMAGE_EXISTS',
  'IMAGE_NOT_FOUND',
  'IMAGE_INVALID',
  'IMAGE_UNVERIFIED',
  'IMAGE_SENT',
  'INTERNAL',
] as const;

/** What went wrong, stable between releases. What to do about each: docs/errors.md. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Numbers and names that help to act on an error, such as `{ needed: 8589934592n, limit: 67108864n }`. */
export type ErrorDetails = Readonly<Record<string, string | number | bigint | boolean>>;

/** The one error class of rdma-migrate. `message` says what happened and what to do about it. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
  readonly code: ErrorCode;
  readonly phase: Phase;
  readonly details: ErrorDetails;

  /** `message`: what happened and what to do about it; `options.cause`: the error of whoever was called. */
  constructor(
    code: ErrorCode,
    phase: Phase,
    message: string,
    options: { cause?: unknown; details?: ErrorDetails } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.phase = phase;
    this.details = options.details ?? {};
  }
}

/**
 * Anything thrown, as a MigrationError: native errors keep their code, Node's system errors get the closest one, anything
 * unknown is `INTERNAL`.
 */
export function toMigrationError(error: unknown, phase: Phase): MigrationError {
  if (error instanceof MigrationError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new MigrationError(codeOf(error), phase, message, { cause: error });
}

const SYSTEM_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EFBIG: 'DISK_FULL',
  ENOMEM: 'OUT_OF_MEMORY',
  EMFILE: 'RESOURCE_LIMIT',
  ENFILE: 'RESOURCE_LIMIT',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  EROFS: 'PERMISSION_DENIED',
  ENOENT: 'IMAGE_NOT_FOUND',
};

function codeOf(error: unknown): ErrorCode {
  if (error instanceof Error && error.name === 'AbortError') return 'CANCELLED';
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  if (typeof code !== 'string') return 'INTERNAL';
  if ((ERROR_CODES as readonly string[]).includes(code)) return code as ErrorCode;
  return SYSTEM_CODES[code] ?? (/^E[A-Z]+$/.test(code) ? 'IO_ERROR' : 'INTERNAL');
}

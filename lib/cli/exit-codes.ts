/** What the command's exit code says. docs/errors.md has the same table with what to do. */
import type { ErrorCode } from '../errors.ts';

export const EXIT = {
  ok: 0,
  internal: 1,
  usage: 2,
  unreachable: 3,
  refused: 4,
  protocol: 5,
  image: 6,
  host: 7,
  /** The destination may have the VM: look there before the source's VM goes on. */
  commitUnknown: 8,
  /** The guest wrote faster than its RAM could be sent; it runs on. */
  notConverged: 9,
  /** 128 + SIGHUP, as a shell reports it. */
  hungUp: 129,
  /** 128 + SIGINT. */
  interrupted: 130,
  /** 128 + SIGTERM. */
  terminated: 143,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
export type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

const EXIT_CODE_OF_SIGNAL: Readonly<Record<StopSignal, ExitCode>> = {
  SIGHUP: EXIT.hungUp,
  SIGINT: EXIT.interrupted,
  SIGTERM: EXIT.terminated,
};

const EXIT_CODE_OF: Readonly<Record<ErrorCode, ExitCode>> = {
  INVALID_ARGUMENT: EXIT.usage,
  INVALID_URI: EXIT.usage,
  CANCELLED: EXIT.interrupted,
  CLOSED: EXIT.internal,
  ADDRESS_IN_USE: EXIT.unreachable,
  ADDRESS_NOT_FOUND: EXIT.unreachable,
  PERMISSION_DENIED: EXIT.host,
  LISTEN_FAILED: EXIT.unreachable,
  CONNECTION_REFUSED: EXIT.unreachable,
  CONNECT_FAILED: EXIT.unreachable,
  REJECTED: EXIT.refused,
  BUSY: EXIT.refused,
  TIMEOUT: EXIT.unreachable,
  CONNECTION_CLOSED: EXIT.unreachable,
  CONNECTION_LOST: EXIT.unreachable,
  CREDENTIALS_INVALID: EXIT.host,
  TLS_REQUIRED: EXIT.refused,
  TLS_FAILED: EXIT.refused,
  NOT_AUTHORIZED: EXIT.refused,
  MPA_ERROR: EXIT.protocol,
  CRC_ERROR: EXIT.protocol,
  INTEGRITY_ERROR: EXIT.protocol,
  TERMINATE_RECEIVED: EXIT.protocol,
  REMOTE_ACCESS_ERROR: EXIT.protocol,
  WIRE_ERROR: EXIT.protocol,
  VERSION_MISMATCH: EXIT.refused,
  PROTOCOL_ERROR: EXIT.protocol,
  PEER_ERROR: EXIT.refused,
  BLOCK_MISMATCH: EXIT.refused,
  STREAM_ERROR: EXIT.protocol,
  STREAM_TRUNCATED: EXIT.protocol,
  COMMIT_MISMATCH: EXIT.protocol,
  COMMIT_UNKNOWN: EXIT.commitUnknown,
  ALREADY_MOVED: EXIT.refused,
  NOT_CONVERGED: EXIT.notConverged,
  GUEST_ERROR: EXIT.host,
  PROVIDER_UNAVAILABLE: EXIT.host,
  TRACKER_UNAVAILABLE: EXIT.host,
  CRYPTO_UNAVAILABLE: EXIT.host,
  REGISTER_FAILED: EXIT.host,
  LOCKED_MEMORY_LIMIT: EXIT.host,
  OUT_OF_MEMORY: EXIT.host,
  RESOURCE_LIMIT: EXIT.host,
  DISK_FULL: EXIT.image,
  IO_ERROR: EXIT.image,
  IMAGE_EXISTS: EXIT.image,
  IMAGE_NOT_FOUND: EXIT.image,
  IMAGE_INVALID: EXIT.image,
  IMAGE_UNVERIFIED: EXIT.image,
  IMAGE_SENT: EXIT.image,
  INTERNAL: EXIT.internal,
};

/** `signal`: the one that cancelled the work, if one did. */
export function exitCodeOf(code: ErrorCode, signal?: StopSignal): ExitCode {
  if (code === 'CANCELLED' && signal !== undefined) return EXIT_CODE_OF_SIGNAL[signal];
  return EXIT_CODE_OF[code];
}

/** For `--help`. */
export const EXIT_CODE_HELP = `
Exit codes:
  0    done
  1    internal error
  2    usage: an argument or URI is not valid
  3    the peer cannot be reached, or went away
  4    the peer refused or gave up, or is not trusted: version, RAM blocks, TLS, an error of its own
  5    what came over the wire, or in a stream, is wrong or incomplete
  6    the image or a file: exists, missing, damaged, not compared, sent before, disk full
  7    this machine: limits, memory, permissions, provider, credentials
  8    unknown whether the destination has the VM: look there before it goes on here
  9    the guest wrote faster than its RAM could be sent; it runs on at the source
  130  cancelled by SIGINT (Ctrl-C); 143: by SIGTERM; 129: by SIGHUP (the terminal went away)
docs/errors.md lists every error code.`;

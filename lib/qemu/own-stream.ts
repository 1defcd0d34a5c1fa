/** QEMU's own migration stream of a guest that stands still, read within a time: a QEMU that says nothing more must not hold up the way back. */
import type { Readable } from 'node:stream';
import { MigrationError } from '../errors.ts';
import { type QemuStreamTarget, readQemuStream } from '../image/index.ts';

export interface OwnStreamOptions {
  /** Blocks, by name, whose pages the stream leaves out. */
  readonly shared: readonly string[];
  /** For the whole stream, milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Reads it to its end. If that fails the stream is destroyed.
 * @throws MigrationError TIMEOUT, CANCELLED; what {@link readQemuStream} throws
 */
export async function readOwnStream(
  stream: Readable,
  target: QemuStreamTarget,
  { shared, timeoutMs, signal }: OwnStreamOptions,
): Promise<void> {
  const late = AbortSignal.timeout(timeoutMs);
  try {
    await readQemuStream(stream, target, { shared, signal: AbortSignal.any([late, signal]) });
  } catch (cause) {
    if (!late.aborted || signal.aborted) throw cause;
    const message = `QEMU has not saved its device state within ${timeoutMs} ms`;
    throw new MigrationError('TIMEOUT', 'device-state', message, { cause, details: { timeoutMs } });
  }
}

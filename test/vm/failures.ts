/** Ways in which the bench itself fails, as opposed to the command that runs in it. */

/** Those of sysexits.h and timeout(1), so that a caller can distinguish them from the command's own. */
export const EXIT = {
  ok: 0,
  usage: 64,
  /** This machine cannot run the bench: the message says what to install. */
  unavailable: 69,
  /** The VM ended without the command's exit status. */
  machineFailed: 70,
  timeout: 124,
} as const;

/** The bench ends with `exitCode` and says `message`. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
  readonly exitCode: number;

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** What is missing on this machine, and what to do about it. */
export function unavailable(message: string, cause?: unknown): BenchError {
  return new BenchError(EXIT.unavailable, `the VM bench cannot run here: ${message}`, { cause });
}

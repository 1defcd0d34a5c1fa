import { type ErrorCode, MigrationError, toMigrationError } from '../errors.ts';
import { exitCodeOf, type StopSignal } from './exit-codes.ts';
import { Interrupt } from './interrupt.ts';
import { createReporter, type OutputOptions } from './output.ts';
import type { Reporter } from './reporter.ts';
import { logSurroundings } from './surroundings.ts';

/** How long the process may take to end by itself once its work is over. */
const LEFTOVERS_MS = 3_000;

/** With these nothing was begun, or nobody knows what is left and the message says what to do. */
const SAYS_IT_ITSELF: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'IMAGE_EXISTS',
  'IMAGE_SENT',
  'COMMIT_UNKNOWN',
]);

/** What a command works with. */
export interface CommandContext {
  readonly reporter: Reporter;
  /** Aborts on the first SIGINT, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal;
  /** From here on a failure leaves this behind: a sentence for the user. */
  onFailure(left: string): void;
}

/** Runs a command to its end and sets the process's exit code. Never rejects. */
export async function runCommand(
  options: OutputOptions & {
    stdoutIsData?: boolean;
    /** What is said at the first signal. Default: that it cancels. */
    stopping?: (name: StopSignal) => string;
  },
  command: (context: CommandContext) => Promise<void>,
): Promise<void> {
  const reporter = createReporter(options, options.stdoutIsData);
  const interrupt = new Interrupt((name) => reporter.notice((options.stopping ?? cancelling)(name)));
  const onDrained = (): void => fail(reporter, drained(), undefined, interrupt);
  process.once('beforeExit', onDrained);
  let left: string | undefined;
  try {
    const onFailure = (text: string): void => {
      left = text;
    };
    if (reporter.log) await logSurroundings(reporter.log);
    await command({ reporter, signal: interrupt.signal, onFailure });
  } catch (thrown) {
    fail(reporter, toMigrationError(thrown, 'configure'), left, interrupt);
  } finally {
    process.off('beforeExit', onDrained);
  }
  // At once: while Node takes itself down it has no handlers any more, and a signal then would make a migration that moved the VM, or may
  // have, look cancelled. A cancelled one may have a thread in a blocked system call, for which process.exit waits.
  const cancelled = interrupt.received !== undefined && Number(process.exitCode) > 128;
  if (!cancelled) interrupt.disarm();
  await flushed();
  if (!cancelled) process.exit();
  endSoon(interrupt);
}

/** What was written has left: `process.exit` drops what a pipe has not taken. */
async function flushed(): Promise<void> {
  const written = [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
  );
  const late = new Promise<void>((resolve) => setTimeout(resolve, LEFTOVERS_MS).unref());
  await Promise.race([Promise.all(written), late]);
}

function cancelling(name: StopSignal): string {
  return `${name}: cancelling; ${name === 'SIGHUP' ? 'SIGTERM' : 'once more'} ends at once`;
}

/** The process ends when nothing is left to do; a blocked system call of a library must not keep it for ever. */
function endSoon(interrupt: Interrupt): void {
  setTimeout(() => {
    if (interrupt.received !== undefined) interrupt.die(interrupt.received);
    else process.exit();
  }, LEFTOVERS_MS).unref();
}

function fail(
  reporter: Reporter,
  error: MigrationError,
  left: string | undefined,
  interrupt: Interrupt,
): void {
  const exitCode = exitCodeOf(error.code, interrupt.received);
  reporter.failed({ error, exitCode, left: SAYS_IT_ITSELF.has(error.code) ? undefined : left });
  reporter.log?.debug({ exitCode, err: error }, 'failed');
  process.exitCode = exitCode;
}

/** Node ends when nothing can happen any more, whether the command has ended or not. */
function drained(): MigrationError {
  return new MigrationError('INTERNAL', 'close', 'the command stopped before its end: please report this');
}

import { goesToJournal, type Priority, prefixed } from './journal.ts';
import { JsonReporter } from './json-reporter.ts';
import { createLogger, type LogFormat } from './log.ts';
import { drawsBars, ProgressArea, ProgressLog, type ProgressView } from './progress-view.ts';
import type { Reporter } from './reporter.ts';
import { TextReporter } from './text-reporter.ts';

/** The options that every command has. */
export interface OutputOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  /** Default: json with `json`, else text. */
  readonly logFormat?: LogFormat;
}

/**
 * The reporter that the options ask for.
 * @param stdoutIsData the command writes a stream to stdout: words go to stderr
 */
export function createReporter(options: OutputOptions, stdoutIsData = false): Reporter {
  const { json = false, quiet = false, verbose = false } = options;
  const area = drawsBars(process.stderr) && !json && !quiet ? new ProgressArea(process.stderr) : undefined;
  const toJournal = goesToJournal(process.stderr.fd);
  const err = (line: string, priority: Priority = 'error'): void => {
    if (area) area.print(line);
    else process.stderr.write(`${toJournal ? prefixed(line, priority) : line}\n`);
  };
  const bar: ProgressView | undefined =
    area ?? (quiet ? undefined : new ProgressLog((line) => err(line, 'info')));
  const log = createLogger({ format: options.logFormat ?? (json ? 'json' : 'text'), quiet, verbose }, err);
  const out = stdoutIsData
    ? (line: string) => err(line, 'info')
    : (line: string): void => {
        area?.stop(); // what stands below the cursor would be erased with the next picture
        process.stdout.write(`${line}\n`);
      };
  if (json) return new JsonReporter(out, log, verbose);
  return new TextReporter({ out, err, log, bar, quiet, verbose });
}

/**
 * A reader of stdout or stderr that goes away is no reason to fail: `rdma-migrate receive ... | head -1` still receives its VM. What
 * must arrive at a reader (image to-qemu) notices by its own writes. EIO: the terminal has closed.
 */
export function survivesClosedOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') process.exitCode ??= 1;
    });
  }
}

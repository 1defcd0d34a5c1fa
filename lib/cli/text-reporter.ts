import type { Logger } from 'pino';
import { printable } from './format.ts';
import type { ProgressBar } from './progress-bar.ts';
import type { BarState, Failure, Reporter } from './reporter.ts';

export interface TextReporterParts {
  /** Writes a line of result to stdout (stderr when stdout carries data). */
  readonly out: (line: string) => void;
  /** Writes a line to stderr. */
  readonly err: (line: string) => void;
  readonly log: Logger;
  /** undefined: stderr is no terminal, or --quiet. */
  readonly bar: ProgressBar | undefined;
  readonly quiet: boolean;
}

/** Says what happens in words: where it listens, the beginning and the end; progress on a terminal; errors with what to do. */
export class TextReporter implements Reporter {
  readonly #parts: TextReporterParts;

  constructor(parts: TextReporterParts) {
    this.#parts = parts;
  }

  started(text: string): void {
    if (!this.#parts.quiet) this.#parts.out(printable(text));
  }

  /** Also with --quiet: scripts wait for it. */
  listening(uri: string): void {
    this.#parts.out(`listening at ${uri}`);
  }

  phase(phase: string): void {
    this.#parts.log.debug(`phase ${phase}`);
  }

  progress(_fields: object, bar: BarState): void {
    this.#parts.bar?.update(bar);
  }

  notice(message: string): void {
    this.#parts.log.info(printable(message));
  }

  debug(message: string): void {
    this.#parts.log.debug(printable(message));
  }

  completed(_fields: object, lines: readonly string[]): void {
    this.#parts.bar?.stop();
    if (this.#parts.quiet) return;
    for (const line of lines) this.#parts.out(printable(line));
  }

  failed({ error, left }: Failure): void {
    this.#parts.bar?.stop();
    this.#parts.err(printable(`rdma-migrate: ${error.message} (${error.code}, phase ${error.phase})`));
    if (left) this.#parts.err(printable(`rdma-migrate: ${left}`));
  }
}

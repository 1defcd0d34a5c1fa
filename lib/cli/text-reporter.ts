import type { Logger } from 'pino';
import { printable } from './format.ts';
import type { ProgressView } from './progress-view.ts';
import type { BarState, Failure, Reporter, Told } from './reporter.ts';

export interface TextReporterParts {
  /** Writes a line of result to stdout (stderr when stdout carries data). */
  readonly out: (line: string) => void;
  /** Writes a line to stderr. */
  readonly err: (line: string) => void;
  readonly log: Logger;
  /** undefined: --quiet, or one of many migrations. */
  readonly bar: ProgressView | undefined;
  readonly quiet: boolean;
  readonly verbose?: boolean;
  /** Which migration each line is of, where there are many. */
  readonly migrationId?: string;
}

/** Says what happens in words: where it listens, the beginning and the end; progress on a terminal, or a line now and then; errors with what to do. */
export class TextReporter implements Reporter {
  readonly #parts: TextReporterParts;

  constructor(parts: TextReporterParts) {
    this.#parts = parts;
  }

  of(migrationId: string): Reporter {
    const log = this.#parts.log.child({ migrationId });
    return new TextReporter({ ...this.#parts, log, bar: undefined, migrationId });
  }

  #line(text: string): string {
    const { migrationId } = this.#parts;
    return printable(migrationId === undefined ? text : `${migrationId}: ${text}`);
  }

  started(text: string): void {
    if (!this.#parts.quiet) this.#parts.out(this.#line(text));
  }

  /** Also with --quiet: scripts wait for it. */
  listening(uri: string): void {
    this.#parts.out(`listening at ${uri}`);
  }

  /** With `verbose` every line of the log has the id as a member. */
  #logged(text: string): string {
    return this.#parts.verbose ? text : this.#line(text);
  }

  get log(): Logger | undefined {
    return this.#parts.verbose ? this.#parts.log : undefined;
  }

  /** Also with --quiet, and not in the log: nobody else is to know the token. */
  page(url: string): void {
    this.#parts.err(`the page: ${url}`);
  }

  phase(phase: string, { logged }: Told = { logged: false }): void {
    if (!logged) this.#parts.log.debug(this.#logged(`phase ${phase}`));
  }

  progress(_fields: object, bar: BarState): void {
    this.#parts.bar?.update(bar);
  }

  notice(message: string, _fields?: object, { logged }: Told = { logged: false }): void {
    if (!logged) this.#parts.log.info(this.#logged(message));
  }

  debug(message: string): void {
    this.#parts.log.debug(this.#logged(message));
  }

  completed(_fields: object, lines: readonly string[]): void {
    this.#parts.bar?.stop();
    if (this.#parts.quiet) return;
    for (const line of lines) this.#parts.out(this.#line(line));
  }

  failed({ error, left }: Failure): void {
    this.#parts.bar?.stop();
    const said = this.#line(`${error.message} (${error.code}, phase ${error.phase})`);
    this.#parts.err(`rdma-migrate: ${said}`);
    if (left) this.#parts.err(`rdma-migrate: ${this.#line(left)}`);
  }
}

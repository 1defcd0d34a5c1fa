import type { Logger } from 'pino';
import { toJson } from '../json.ts';
import type { Failure, Reporter, Told } from './reporter.ts';

/** One JSON object per line. Integers of 64 bits are decimal strings, as in an image's manifest. docs/cli.md lists the events. */
export class JsonReporter implements Reporter {
  readonly log: Logger | undefined;
  readonly #write: (line: string) => void;
  readonly #log: Logger;
  readonly #common: object;

  /** `write` gets one line without its end. `common`: what every event has. */
  constructor(write: (line: string) => void, log: Logger, verbose = false, common: object = {}) {
    this.#write = write;
    this.#log = log;
    this.log = verbose ? log : undefined;
    this.#common = common;
  }

  started(text: string, fields?: object): void {
    this.#log.debug(text);
    if (fields) this.#event('started', fields);
  }

  listening(uri: string): void {
    this.#event('listening', { uri });
  }

  page(url: string): void {
    this.#event('page', { url });
  }

  phase(phase: string): void {
    this.#event('phase', { phase });
  }

  progress(fields: object): void {
    this.#event('progress', fields);
  }

  notice(message: string, fields: object = {}, { logged }: Told = { logged: false }): void {
    this.#event('notice', { message, ...fields });
    if (!logged) this.log?.info(fields, message);
  }

  debug(message: string): void {
    this.#log.debug(message);
  }

  completed(fields: object): void {
    this.#event('completed', fields);
  }

  failed({ error, exitCode, left }: Failure): void {
    const { code, phase, message, details } = error;
    this.#event('error', { code, phase, message, details, 'exit-code': exitCode, ...(left && { left }) });
  }

  of(migrationId: string): Reporter {
    return new JsonReporter(this.#write, this.#log.child({ migrationId }), this.log !== undefined, {
      migrationId,
    });
  }

  #event(event: string, fields: object): void {
    this.#write(toJson({ event, ...this.#common, ...fields }));
  }
}

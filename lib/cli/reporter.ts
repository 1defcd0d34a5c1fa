import type { MigrationError, Phase } from '../errors.ts';
import type { Verdict } from '../migration/live/convergence.ts';
import type { MigrationLogger } from '../migration/logger.ts';
import type { ExitCode } from './exit-codes.ts';

/** What is shown of a guest that runs while it is moved, at its source. Bytes, bytes per second, milliseconds. */
export interface LiveBar {
  readonly round: number;
  /** Of this round. */
  readonly remaining: number;
  readonly sentBytesPerSecond: number;
  /** What the guest writes; undefined in the first round. */
  readonly dirtyBytesPerSecond: number | undefined;
  /** If it were stopped now; undefined in the first round. */
  readonly expectedMs: number | undefined;
  /** `downtime-limit`; undefined in the first round. */
  readonly allowedMs: number | undefined;
  /** For how long it has stood still; undefined while it runs. */
  readonly downtimeMs: number | undefined;
  /** Of its CPU time, what it is denied. */
  readonly throttlePercentage: number;
  readonly verdict: Verdict | undefined;
}

/** What a progress bar shows, in bytes and seconds. */
export interface BarState {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly bytesPerSecond: number;
  /** undefined: cannot be told yet. */
  readonly secondsLeft: number | undefined;
  readonly live?: LiveBar;
}

export interface Failure {
  readonly error: MigrationError;
  readonly exitCode: ExitCode;
  /** What the failure leaves behind, in a sentence. */
  readonly left: string | undefined;
}

/** `logged`: it stands in {@link Reporter.log} already. */
export interface Told {
  readonly logged: boolean;
}

/** Where a command says what it does: text for people or lines of JSON for programs. */
export interface Reporter {
  /** With --verbose: the log on stderr. */
  readonly log: MigrationLogger | undefined;
  /** The work begins; `text` is a line for people, `fields` is for programs. */
  started(text: string, fields?: object): void;
  /** The address at which peers may connect from now on. */
  listening(uri: string): void;
  /** The address of the page that shows what goes on, with its token. */
  page(url: string): void;
  phase(phase: Phase | string, told?: Told): void;
  /** `fields` as programs get them, `bar` for people. */
  progress(fields: object, bar: BarState): void;
  /** Something worth knowing; not an error. `fields`: more for programs. */
  notice(message: string, fields?: object, told?: Told): void;
  /** Details, with --verbose. */
  debug(message: string): void;
  /** `fields` as programs get them, `lines` for people. */
  completed(fields: object, lines: readonly string[]): void;
  failed(failure: Failure): void;
  /** The same for one of many migrations: each line says which, and none draws a bar. */
  of(migrationId: string): Reporter;
}

import type { Phase } from '../errors.ts';
import type { MigrationEvent, NoticeCode } from './events.ts';

/** Which end of a migration speaks. */
export type MigrationRole = 'source' | 'destination';

/**
 * Where a migration logs, in the form that pino has: `new MigrationSource(vm, uri, { logger: pino() })` fits as it is. `obj` is plain data, with
 * `role` and the event's own members; of a failure it has the error as `err`. What a logger throws changes nothing.
 */
export interface MigrationLogger {
  /** `phase`, `link` `connecting`, `round`, `throttle`, `downtime`. */
  debug(obj: object, msg: string): void;
  /** `link`, notices for the record, a cancel, the completed migration. */
  info(obj: object, msg: string): void;
  /** Notices that ask for attention. */
  warn(obj: object, msg: string): void;
  /** The migration has failed. */
  error(obj: object, msg: string): void;
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export const isLogger = (value: unknown): value is MigrationLogger =>
  typeof value === 'object' &&
  value !== null &&
  LEVELS.every((level) => typeof (value as Record<string, unknown>)[level] === 'function');

/** These ask for somebody's attention; all others are for the record. */
const WARNINGS: ReadonlySet<NoticeCode> = new Set([
  'UNPROTECTED',
  'LINK_LOST',
  'DOWNTIME_UNREACHABLE',
  'NO_THROTTLE',
  'SOURCE_NOT_TOLD',
  'ABORT_FAILED',
  'SUBSCRIBER_FAILED',
]);

/**
 * Writes a migration's events into a log. `error`: it has failed. `warn`: notices that ask for attention. `info`: who the peer is and what was agreed with it, how
 * much is to be moved, all other notices, a cancel, the result. `debug`: phases, rounds, what is done to the guest. Samples of counters are not
 * logged. Each line has the role, once they are known the migration's id and the peer, and where a phase ends how long that took.
 */
export class MigrationLog {
  readonly #logger: MigrationLogger;
  readonly #role: MigrationRole;
  #about: { readonly migrationId?: string; readonly peer?: string } = {};
  #phase: { readonly phase: Phase; readonly at: number } | undefined;

  constructor(logger: MigrationLogger, role: MigrationRole) {
    this.#logger = logger;
    this.#role = role;
  }

  /** What the logger gives: one that is asynchronous may fail later. */
  write(event: MigrationEvent): unknown {
    if (event.type === 'link' && event.state === 'connected')
      this.#about = { migrationId: event.migrationId, peer: event.peer };
    const took = this.#took(event);
    const line = lineOf(event);
    if (line === undefined) return undefined;
    const { level, text, fields = event } = line;
    return this.#logger[level]({ role: this.#role, ...this.#about, ...fields, ...took }, text);
  }

  /** The phase that this event ends, and its milliseconds. */
  #took(event: MigrationEvent): { readonly ended: Phase; readonly took: number } | undefined {
    if (event.type !== 'phase' && event.type !== 'end') return undefined;
    const before = this.#phase;
    this.#phase = event.type === 'phase' ? { phase: event.phase, at: event.at } : undefined;
    return before && { ended: before.phase, took: event.at - before.at };
  }
}

interface Line {
  readonly level: keyof MigrationLogger;
  readonly text: string;
  /** Default: the event's members. */
  readonly fields?: object;
}

/** undefined: not logged. */
function lineOf(event: MigrationEvent): Line | undefined {
  switch (event.type) {
    case 'end':
      return lastLine(event);
    case 'notice':
      return { level: WARNINGS.has(event.code) ? 'warn' : 'info', text: event.message };
    case 'link':
      return { level: event.state === 'connecting' ? 'debug' : 'info', text: `link ${event.state}` };
    case 'phase':
      return { level: 'debug', text: `phase ${event.phase}` };
    case 'round':
      return { level: 'debug', text: `round ${event.state}` };
    case 'throttle':
    case 'downtime':
      return { level: 'debug', text: event.type };
    case 'bytes':
    case 'zero':
    case 'pin':
      return undefined;
  }
}

function lastLine(event: Extract<MigrationEvent, { type: 'end' }>): Line {
  if (event.status === 'completed') return { level: 'info', text: 'migration completed' };
  const { type, at, status, error } = event;
  const fields = { type, at, status, err: error };
  if (status === 'cancelled') return { level: 'info', text: `migration cancelled: ${error.message}`, fields };
  return { level: 'error', text: `migration failed: ${error.message}`, fields };
}

import { createInterface } from 'node:readline';
import { MigrationError } from '../errors.ts';
import type { MigrationResult } from '../migration/result.ts';
import { parseWatchTarget, readToken, type WatchedMigration, watch as watchPage } from '../web/index.ts';
import { exitCodeOf } from './exit-codes.ts';
import { migrationBar, migrationSummary } from './migration-view.ts';
import type { Reporter } from './reporter.ts';
import type { CommandContext } from './run.ts';
import type { WatchOptions } from './watch-program.ts';

/** What a page may be called by. */
const MOST_ADDRESS = 1024;

/** `rdma-migrate watch`: what another command says of its migrations, until it ends. */
export async function watch(
  { reporter, signal }: CommandContext,
  address: string,
  { webTokenFile }: WatchOptions,
): Promise<void> {
  const token = webTokenFile === undefined ? undefined : await readToken(webTokenFile);
  const target = parseWatchTarget(address === '-' ? await firstLine(signal) : address, token);
  const known = new Map<number, Followed>();
  let seen = 0;
  for await (const migrations of watchPage(target, signal)) {
    // What the page no longer shows does not come back.
    const shown = new Set(migrations.map(({ id }) => id));
    for (const id of known.keys()) if (!shown.has(id)) known.delete(id);
    for (const one of migrations) {
      let followed = known.get(one.id);
      if (!followed) {
        followed = new Followed(reporter);
        known.set(one.id, followed);
        seen += 1;
      }
      followed.show(one, migrations.length === 1 && seen === 1);
    }
  }
}

async function firstLine(signal: AbortSignal): Promise<string> {
  const lines = createInterface({ input: process.stdin, signal });
  try {
    for await (const line of lines) return line.slice(0, MOST_ADDRESS).trim();
  } finally {
    lines.close();
    process.stdin.destroy();
  }
  signal.throwIfAborted();
  throw new MigrationError('INVALID_ARGUMENT', 'configure', 'expected the address of a page on stdin');
}

/** One migration; says each thing once. */
class Followed {
  readonly #all: Reporter;
  #mine: Reporter | undefined;
  #phase = '';
  #noticedAt = -1;
  #ended = false;

  constructor(reporter: Reporter) {
    this.#all = reporter;
  }

  /** `alone`: there is no other, and its lines need not say whose they are. */
  show(one: WatchedMigration, alone: boolean): void {
    if (this.#ended) return;
    const reporter = this.#reporterOf(one, alone);
    if (reporter) this.#tell(reporter, one);
  }

  /** Before both ends know which migration it is there is nothing to tell, unless that is how it ended. */
  #reporterOf({ title, role, link, end }: WatchedMigration, alone: boolean): Reporter | undefined {
    const { migrationId } = link;
    if (this.#mine) return this.#mine;
    if (migrationId === undefined) return end && this.#all;
    this.#mine = alone ? this.#all : this.#all.of(migrationId);
    this.#mine.started(`${role === 'source' ? 'sending' : 'receiving'} ${title}`, { migrationId });
    return this.#mine;
  }

  #tell(reporter: Reporter, { title, role, progress, notices, end }: WatchedMigration): void {
    if (progress.phase !== this.#phase) reporter.phase(progress.phase);
    this.#phase = progress.phase;
    for (const { at, code, message } of notices) if (at > this.#noticedAt) reporter.notice(message, { code });
    this.#noticedAt = notices.at(-1)?.at ?? this.#noticedAt;
    if (progress.ram.total > 0) reporter.progress(progress, migrationBar(progress));
    if (end === undefined) return;
    this.#ended = true;
    if (end.result) {
      const result = end.result as unknown as MigrationResult;
      reporter.completed(result, migrationSummary(role === 'source' ? 'sent' : 'received', title, result));
    } else if (end.error) {
      const { code, phase, message, details } = end.error;
      const error = new MigrationError(code, phase, message, {
        details: details as MigrationError['details'],
      });
      reporter.failed({ error, exitCode: exitCodeOf(code), left: undefined });
    }
  }
}

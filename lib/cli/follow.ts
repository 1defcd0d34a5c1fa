import { MigrationLog } from '../migration/logger.ts';
import type { Migration } from '../migration/migration.ts';
import { migrationBar } from './migration-view.ts';
import type { Reporter } from './reporter.ts';

/** Runs a migration and reports its phases, notices and progress until it has ended; with --verbose all that happens goes to the log. */
export async function follow<T>(migration: Migration, reporter: Reporter, run: () => Promise<T>): Promise<T> {
  const log = reporter.log && new MigrationLog(reporter.log, migration.role);
  const told = { logged: log !== undefined };
  if (log) migration.on('event', (event) => log.write(event));
  migration.on('phase', (phase) => reporter.phase(phase, told));
  migration.on('notice', (message, { code, details }) => reporter.notice(message, { code, details }, told));
  const running = run();
  const watching = watch(migration, reporter);
  try {
    return await running;
  } finally {
    await watching;
  }
}

/** Before RAM's size is known there is no progress to tell. */
async function watch(migration: Migration, reporter: Reporter): Promise<void> {
  for await (const progress of migration.progress()) {
    if (progress.ram.total > 0) reporter.progress(progress, migrationBar(progress));
  }
}

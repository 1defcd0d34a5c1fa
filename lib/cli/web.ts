/** `--web`: the command's migrations on a page. A command opens it once and shows each of its migrations; without the option nothing happens. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Command } from 'commander';
import { isLoopback } from '../migration/destination/exposure.ts';
import { EVENT_CHANNEL, type MigrationMessage } from '../migration/diagnostics.ts';
import { Migration } from '../migration/migration.ts';
import type { WebAddress, WebServer } from '../web/index.ts';
import { parsePath } from './arguments.ts';
import type { CommandContext } from './run.ts';

export interface WebOptions {
  readonly web?: string;
  /** An absolute path. */
  readonly webTokenFile?: string;
}

export interface Page extends AsyncDisposable {
  /** Before the migration begins. It is to run with the signal that is given back, which a viewer can abort. */
  show(migration: Migration, title: string): AbortSignal;
  /** The same for one among many: a viewer's cancel ends this one. */
  showOne(migration: Migration, title: string, cancel: () => void): void;
  /** Every migration of the process from here on, by the role that it has. What it gives back is aborted by a viewer's cancel of any. */
  showAll(): AbortSignal;
}

/** @throws MigrationError INVALID_ARGUMENT, PERMISSION_DENIED, ADDRESS_IN_USE, and what else listening fails with */
export async function openPage(context: CommandContext, options: WebOptions): Promise<Page> {
  const { reporter, signal } = context;
  if (options.web === undefined)
    return {
      show: () => signal,
      showOne: () => {},
      showAll: () => signal,
      [Symbol.asyncDispose]: async () => {},
    };
  const { cancelled, parseWebAddress, WebServer, readToken } = await import('../web/index.ts');
  const { webTokenFile } = options;
  const address: WebAddress = parseWebAddress(options.web);
  const token = webTokenFile === undefined ? undefined : await readToken(webTokenFile);
  const server: WebServer = await WebServer.listen(address, {
    ...(token !== undefined && { token }),
    onAction: (what) => reporter.notice(`from the page: ${what}`),
  });
  // The secret of a file stays there.
  reporter.page(token === undefined ? server.url : `${server.origin}/#`);
  if (!(await isLoopback(address.host)))
    reporter.notice(
      `the page at ${server.origin} is not encrypted: who listens on the network can read its token`,
    );
  const controller = new AbortController();
  let leave = (): void => {};
  return {
    show: (migration, title) => {
      server.show(migration, title, () => controller.abort(cancelled(migration)));
      return AbortSignal.any([signal, controller.signal]);
    },
    showOne: (migration, title, cancel) => server.show(migration, title, cancel),
    showAll: () => {
      leave = eachMigration((migration) =>
        server.show(migration, `RAM, as ${migration.role}`, () => controller.abort(cancelled(migration))),
      );
      return AbortSignal.any([signal, controller.signal]);
    },
    [Symbol.asyncDispose]: () => {
      leave();
      return server.close();
    },
  };
}

/** Tells of each migration of the process once, with its first event. What it gives back ends that. */
function eachMigration(found: (migration: Migration) => void): () => void {
  const known = new WeakSet<Migration>();
  const listener = (message: unknown): void => {
    const { migration } = message as MigrationMessage;
    if (!(migration instanceof Migration) || known.has(migration)) return;
    known.add(migration);
    found(migration);
  };
  subscribe(EVENT_CHANNEL, listener);
  return () => void unsubscribe(EVENT_CHANNEL, listener);
}

export const withWeb = (command: Command): Command =>
  command
    .option(
      '--web <[host:]port>',
      'show it on a page, with metrics, at 127.0.0.1 unless a host is named; port 0 takes any free port',
    )
    .option(
      '--web-token-file <file>',
      'the token of the page is in this file (default: a new one)',
      parsePath,
    );

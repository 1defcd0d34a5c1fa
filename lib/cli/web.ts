/** `--web`: the command's migrations on a page. A command opens it once and shows each of its migrations; without the option nothing happens. */
import { type Command, Option } from 'commander';
import type { Migration } from '../migration/migration.ts';
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
}

/** @throws MigrationError INVALID_ARGUMENT, ADDRESS_IN_USE, and what else listening fails with */
export async function openPage(
  { reporter, signal }: CommandContext,
  { web, webTokenFile }: WebOptions,
): Promise<Page> {
  if (web === undefined) return { show: () => signal, [Symbol.asyncDispose]: async () => {} };
  const { WebServer, cancelled, isLoopback, parseWebAddress, readToken } = await import('../web/index.ts');
  const address: WebAddress = parseWebAddress(web);
  const token = webTokenFile === undefined ? undefined : await readToken(webTokenFile);
  const server: WebServer = await WebServer.listen(address, {
    ...(token !== undefined && { token }),
    onAction: (what) => reporter.notice(`from the page: ${what}`),
  });
  // The secret of a file stays there.
  reporter.page(token === undefined ? server.url : `${server.origin}/#`);
  if (!isLoopback(address.host))
    reporter.notice(
      `the page at ${server.origin} is not encrypted: who listens on the network can read its token`,
    );
  return {
    show: (migration, title) => {
      const controller = new AbortController();
      server.show(migration, title, () => controller.abort(cancelled(migration)));
      return AbortSignal.any([signal, controller.signal]);
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
}

export const withWeb = (command: Command): Command =>
  command
    .addOption(
      new Option(
        '--web <[host:]port>',
        'show it on a page, with metrics, at 127.0.0.1 unless a host is named; port 0 takes any free port',
      ).conflicts('keep'),
    )
    .option(
      '--web-token-file <file>',
      'the token of the page is in this file (default: a new one)',
      parsePath,
    );

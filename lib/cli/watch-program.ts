/** `rdma-migrate watch` in the tree of commands. */
import type { Command } from 'commander';
import { parsePath } from './arguments.ts';
import type { OutputOptions } from './output.ts';

export interface WatchOptions extends OutputOptions {
  /** An absolute path. */
  readonly webTokenFile?: string;
}

export function addWatch(
  program: Command,
  run: (address: string, options: WatchOptions) => Promise<void>,
): Command {
  return program
    .command('watch')
    .summary('follow the migrations of a command that runs with --web')
    .description(
      'Shows in the terminal how the migrations of a command go that runs with --web, until it ends. It changes nothing: Ctrl-C ends the watching alone. ' +
        'Other users of this machine can see arguments: let the token come from a file, or the address from stdin.',
    )
    .argument(
      '<address>',
      'what the command has printed, [HOST:]PORT with --web-token-file, or - to read it from stdin',
    )
    .option('--web-token-file <file>', 'the token of the page is in this file', parsePath)
    .action(run);
}

/** What `receive --keep` can be told beside what `receive` can. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { DrainPolicy } from '../../migration/destination/service.ts';
import { parseCount, parsePath, parseSeconds } from '../arguments.ts';

export interface KeepOptions {
  /** An absolute path. */
  readonly keep?: string;
  readonly maxMigrations?: number;
  readonly overcommitDisk?: boolean;
  readonly onTerm?: DrainPolicy;
  /** Milliseconds. */
  readonly drainTimeout?: number;
}

export const addKeepOptions = (command: Command): Command =>
  command
    .addOption(
      new Option(
        '--keep <dir>',
        'receive one VM after another, and many at once, into this folder, each under the id of its migration, until told to end',
      )
        .argParser(parsePath)
        .conflicts(['image', 'ramFile', 'timeout']),
    )
    .option(
      '--max-migrations <number>',
      'with --keep: how many may be under way at one time; one more is refused as BUSY (default 16)',
      parseMost,
    )
    .option(
      '--overcommit-disk',
      'with --keep: take VMs although not all that are under way would fit on the disk if all of their RAM had content',
    )
    .addOption(
      new Option(
        '--on-term <what>',
        'with --keep: what becomes of migrations that are under way at SIGTERM or SIGINT (default finish)',
      ).choices(['finish', 'cancel']),
    )
    .option(
      '--drain-timeout <seconds>',
      'with --keep: how long they may take to finish; then they are cancelled (default: no limit)',
      parseSeconds,
    );

function parseMost(text: string): number {
  const most = parseCount(text);
  if (most >= 1 && most <= 1024) return most;
  throw new InvalidArgumentError('Expected a number from 1 to 1024.');
}

/** How long a command tries to reach its peer: one definition for every command that connects. */
import type { Command } from 'commander';
import type { SourceOptions } from '../migration/options.ts';
import { parseSeconds } from './arguments.ts';

export interface ConnectOptions {
  /** Milliseconds. */
  readonly connectTimeout?: number;
  readonly wait?: number;
}

export function withConnect(command: Command): Command {
  return command
    .option(
      '--connect-timeout <time>',
      'the longest time for one try to connect, and as long again for TLS (default 10 s, or less with a shorter --response-timeout)',
      parseSeconds,
    )
    .option(
      '--wait <time>',
      'while nothing listens there yet, the name is unknown, or it serves as many as it may, try again for so long (default: try once)',
      parseSeconds,
    );
}

/** As the library takes it. */
export const connectOptions = ({
  connectTimeout,
  wait,
}: ConnectOptions): Pick<SourceOptions, 'connectTimeoutMs' | 'waitMs'> => ({
  ...(connectTimeout !== undefined && { connectTimeoutMs: connectTimeout }),
  ...(wait !== undefined && { waitMs: wait }),
});

import { InvalidArgumentError } from 'commander';
import {
  collectIgnored,
  collectPath,
  parseCount,
  parseMilliseconds,
  parseSeconds,
  parseSize,
} from '../../../lib/cli/arguments.ts';
import { Finding } from '../judge.ts';
import { mutateText } from '../mutate.ts';
import type { Target } from '../target.ts';

/** What each reads, and what it may give. */
const PARSERS: readonly (readonly [string, string, (text: string) => unknown, (value: never) => boolean])[] =
  [
    ['size', '1.5G', parseSize, (value: bigint) => value >= 0n && value < 1n << 64n],
    ['count', '16', parseCount, (value: number) => Number.isSafeInteger(value) && value >= 0],
    ['seconds', '0.5', parseSeconds, (value: number) => value >= 1 && value < 2 ** 31],
    ['milliseconds', '300ms', parseMilliseconds, (value: number) => value >= 1 && value < 2 ** 31],
    ['path', 'pc.ram=/dev/shm/x', collectPath, (value: object) => Object.keys(value).length === 1],
    ['ignored', 'pc.ram=0x1000', collectIgnored, (value: object) => Object.keys(value).length === 1],
  ];

export const commandLine: Target = {
  name: 'arguments',
  feeds: 'the readers of the command line’s values with damaged text',
  reaches: ['refused', ...PARSERS.map(([name]) => name)],
  play(random, hit) {
    const [name, seed, parse, isRight] = random.pick(PARSERS);
    const text = mutateText(random, seed);
    try {
      const value = parse(text);
      if (!isRight(value as never))
        throw new Finding(`${name} gives ${String(value)} for ${JSON.stringify(text)}`);
      hit(name);
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      hit('refused');
    }
  },
};

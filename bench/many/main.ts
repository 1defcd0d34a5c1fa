/**
 * Many migrations at once between two processes, over the software RNIC: what they cost, and whether one that fails delays the others.
 *
 *   npm run bench:many -- [--count N] [--mib N] [--small FOLDER]
 *
 * `--small`: a folder on a file system of less than `--mib`, for instance a small tmpfs; the first migration goes there and fails.
 */
import { parseArgs } from 'node:util';
import { Child } from '../support/child.ts';
import { inWords, Peak } from '../support/cost.ts';
import type { Begin, Ended } from './end.ts';

const END = new URL('end.js', import.meta.url);

interface Outcome {
  readonly seconds: number;
  readonly sources: readonly Ended[];
  readonly destinations: readonly Ended[];
  readonly cost: { readonly source: string; readonly destination: string };
}

async function together(begin: Begin): Promise<Outcome> {
  await using destination = new Child(END);
  destination.say(begin);
  const { uris } = await destination.hear<{ uris: string[] }>();
  await using source = new Child(END);
  const { small: _, ...common } = begin;
  source.say({ ...common, uris });
  await source.hear();
  const peaks = { source: new Peak(source.pid), destination: new Peak(destination.pid) };
  const began = performance.now();
  source.say({ go: true });
  const [sources, destinations] = await Promise.all([source.hear<Ended[]>(), destination.hear<Ended[]>()]);
  const seconds = (performance.now() - began) / 1000;
  const cost = {
    source: inWords(await peaks.source.stop()),
    destination: inWords(await peaks.destination.stop()),
  };
  return { seconds, sources, destinations, cost };
}

function print(what: string, { seconds, sources, destinations, cost }: Outcome): void {
  const arrived = sources.filter(({ failed }, index) => !failed && !destinations[index]?.failed);
  const times = sources.filter(({ failed }) => !failed).map(({ atMs }) => atMs);
  const [first, last] = [Math.min(...times), Math.max(...times)].map((ms) => (ms / 1000).toFixed(2));
  console.log(`${what}: ${arrived.length} of ${sources.length} arrived in ${seconds.toFixed(2)} s`);
  console.log(`  the first after ${first} s, the last after ${last} s`);
  for (const [index, { failed, atMs }] of sources.entries()) {
    const other = destinations[index]?.failed;
    if (failed || other)
      console.log(
        `  number ${index} failed after ${(atMs / 1000).toFixed(2)} s: source ${failed}, destination ${other}`,
      );
  }
  console.log(`  source: ${cost.source}\n  destination: ${cost.destination}`);
}

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '64' },
    mib: { type: 'string', default: '64' },
    small: { type: 'string' },
  },
});
const begin = { count: Number(values.count), bytes: Number(values.mib) * 2 ** 20 };
print('one', await together({ ...begin, count: 1 }));
print(`${begin.count} at once`, await together(begin));
if (values.small) print('one of them with a full disk', await together({ ...begin, small: values.small }));

/** `npm run bench:record`: measures what docs/benchmarks.md shows, into docs/benchmarks/, and makes the document. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RESULTS } from './report/files.ts';
import { benchCommand, oneOf, runBench } from './support/arguments.ts';
import { ownChild } from './support/leftovers.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BENCHES = {
  throughput: ['--targets'],
  pinning: ['--budget', '64'],
  trackers: [],
  footprint: [],
  many: [],
  strangers: [],
  'queue-pairs': [],
  verbs: [],
} as const;
/** Flame graphs of docs/performance.md. */
const PROFILES = {
  touched: [],
  'touched-crc': ['--crc'],
  fresh: ['--into', 'fresh', '--mib', '2000', '--moves', '3'],
} as const;
type Name = keyof typeof BENCHES | 'profiles';
const NAMES: readonly Name[] = [...(Object.keys(BENCHES) as (keyof typeof BENCHES)[]), 'profiles'];

async function profile(): Promise<void> {
  for (const [name, args] of Object.entries(PROFILES))
    await run('profile', [...args, '--out', join(ROOT, 'docs/performance', `${name}.svg`)]);
}

async function run(module: string, args: readonly string[]): Promise<void> {
  const main = fileURLToPath(new URL(`./${module}/main.js`, import.meta.url));
  const child = ownChild(spawn(process.execPath, [main, ...args], { stdio: 'inherit' }), 'SIGTERM');
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${module} failed`);
}

const command = benchCommand(
  'bench:record',
  'Measures what docs/benchmarks.md shows, and makes it. On a machine that does nothing else.',
).argument(
  '[names...]',
  `which, of ${NAMES.join(', ')}; all if none is given (about 15 minutes)`,
  (text, all: Name[] = []) => [...all, oneOf(NAMES)(text)],
);
await runBench(command, async () => {
  const [named] = command.processedArgs as [Name[]];
  for (const name of named.length > 0 ? named : NAMES) {
    console.log(`\n--- ${name}`);
    if (name === 'profiles') await profile();
    else await run(name, [...BENCHES[name], '--json', join(ROOT, RESULTS, `${name}.json`)]);
  }
  await run('report', []);
});

/** `npm run bench:smoke`: runs each benchmark once with little memory, to check that it works. Its figures mean nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { benchCommand, runBench } from './support/arguments.ts';
import { ownChild } from './support/leftovers.ts';

const THROUGHPUT =
  '--targets --rounds 0 --mib 16 --fresh-mib 16 --channels default --multifd 4 --flat-mib 16,32';
const BENCHES = {
  throughput: `${THROUGHPUT} --sparse-gib 1 --sparse-mib 16`,
  pinning: '--rounds 0 --mib 32 --budget 8',
  footprint: '--mib 64',
  many: '--count 8 --mib 8',
  strangers: '--each 8 --refused 64 --mib 8',
  'queue-pairs': '--count 64',
  verbs: '--rounds 0',
} as const;
/** A bench that hangs fails. Each takes seconds. */
const TIMEOUT_MS = 180_000;

async function run(name: string, args: string): Promise<boolean> {
  console.log(`\n--- ${name} ${args}`);
  const started = performance.now();
  const main = fileURLToPath(new URL(`./${name}/main.js`, import.meta.url));
  const child = ownChild(
    spawn(process.execPath, [main, ...args.split(' ')], { stdio: 'inherit', timeout: TIMEOUT_MS }),
  );
  const [code] = (await once(child, 'close')) as [number | null];
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`--- ${name}: ${code === 0 ? 'ran' : 'FAILED'}, ${seconds} s`);
  return code === 0;
}

await runBench(
  benchCommand('bench:smoke', 'Every benchmark once, with little memory: does it work?'),
  async () => {
    const failed: string[] = [];
    for (const [name, args] of Object.entries(BENCHES)) if (!(await run(name, args))) failed.push(name);
    if (failed.length > 0) throw new Error(`failed: ${failed.join(', ')}`);
    console.log(`\n${Object.keys(BENCHES).length} ran`);
  },
);

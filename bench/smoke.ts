/** `npm run bench:smoke`: runs each benchmark once with little memory, to check that it works. Its figures mean nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { benchCommand, runBench } from './support/arguments.ts';
import { ownChild } from './support/leftovers.ts';

const THROUGHPUT =
  '--targets --rounds 0 --mib 16 --fresh-mib 16 --channels default --multifd 4 --flat-mib 16,32';
const STRANGERS = '--each 8 --refused 64 --mib 8';
const BENCHES = {
  throughput: [`${THROUGHPUT} --sparse-gib 1 --sparse-mib 16`],
  pinning: ['--rounds 0 --mib 32 --budget 8'],
  trackers: ['--rounds 1 --gib 1 --touched 16 --dirty 10 --bitmap-gib 16'],
  footprint: ['--mib 64'],
  many: ['--count 8 --mib 8'],
  strangers: [STRANGERS, `${STRANGERS} --tls`],
  'queue-pairs': ['--count 64'],
  mobility: ['--queue-pairs 1,4 --rounds 1 --seconds 1 --drain-sizes 512'],
  verbs: ['--rounds 0'],
} as const;
/** A bench that hangs fails. Each takes seconds. */
const TIMEOUT_MS = 90_000;

async function run(name: string, args: string): Promise<boolean> {
  console.log(`\n--- ${name} ${args}`);
  const started = performance.now();
  const main = fileURLToPath(new URL(`./${name}/main.js`, import.meta.url));
  const child = ownChild(
    spawn(process.execPath, [main, ...args.split(' ')], { stdio: 'inherit', timeout: TIMEOUT_MS }),
    'SIGTERM',
  );
  const [code] = (await once(child, 'close')) as [number | null];
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`--- ${name}: ${code === 0 ? 'ran' : 'FAILED'}, ${seconds} s`);
  return code === 0;
}

/** One that is told something wrong says so in a sentence and ends with 2. */
async function refuses(name: string): Promise<boolean> {
  const main = fileURLToPath(new URL(`./${name}/main.js`, import.meta.url));
  const child = ownChild(
    spawn(process.execPath, [main, '--nonsense'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: TIMEOUT_MS,
    }),
  );
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  const right = code === 2 && /^error: .+/.test(said) && !/^\s+at /m.test(said);
  console.log(`--- ${name} --nonsense: ${right ? 'is refused' : `FAILED (${code}): ${said}`}`);
  return right;
}

/** One that is interrupted ends at once and leaves no process behind. */
async function isInterrupted(): Promise<boolean> {
  const main = fileURLToPath(new URL('./throughput/main.js', import.meta.url));
  const args = [main, '--only', 'touched', '--mib', '64'];
  const child = ownChild(
    spawn(process.execPath, args, {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: TIMEOUT_MS,
    }),
  );
  await once(child.stderr, 'data'); // its ends have started
  child.kill('SIGINT');
  const [code] = (await once(child, 'exit')) as [number | null];
  const left = await remains(child.pid as number);
  const right = code === 130 && !left;
  console.log(
    `--- throughput, interrupted: ${right ? 'ends' : `FAILED (${code}${left ? ', left processes' : ''})`}`,
  );
  return right;
}

/** Whether a process group has members still, after the moment that killed ones take to be gone. */
async function remains(group: number): Promise<boolean> {
  for (let looks = 0; looks < 40; looks++) {
    try {
      process.kill(-group, 0);
    } catch {
      return false;
    }
    await pause(50);
  }
  return true;
}

await runBench(
  benchCommand('bench:smoke', 'Every benchmark once, with little memory: does it work?'),
  async () => {
    const names = Object.keys(BENCHES) as (keyof typeof BENCHES)[];
    const outcomes: boolean[] = [];
    for (const name of names) for (const args of BENCHES[name]) outcomes.push(await run(name, args));
    outcomes.push(...(await Promise.all(names.map(refuses))));
    outcomes.push(await isInterrupted());
    const failed = outcomes.filter((passed) => !passed).length;
    console.log(`\n${outcomes.length - failed} passed, ${failed} failed`);
    if (failed > 0) throw new Error('a benchmark does not work');
  },
);

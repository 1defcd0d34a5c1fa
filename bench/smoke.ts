/** `npm run bench:smoke`: runs each benchmark once with little memory, to check that it works. Its figures mean nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const BENCHES = {
  throughput: ['--rounds', '1', '--mib', '32'],
  pinning: ['--rounds', '1', '--mib', '32', '--budget', '8'],
  sparse: ['--rounds', '1', '--gib', '1', '--mib', '16'],
  trackers: ['--rounds', '1', '--gib', '1', '--touched', '16', '--dirty', '10', '--bitmap-gib', '16'],
  footprint: ['--mib', '64'],
  many: ['--count', '8', '--mib', '8'],
  strangers: ['--each', '8', '--refused', '64', '--mib', '8'],
  'queue-pairs': ['--count', '64'],
  verbs: ['--rounds', '1'],
} as const;
/** A bench that hangs fails. Each takes seconds. */
const TIMEOUT_MS = 180_000;

async function run(name: string, args: readonly string[]): Promise<boolean> {
  console.log(`\n--- ${name} ${args.join(' ')}`);
  const started = performance.now();
  const main = fileURLToPath(new URL(`./${name}/main.js`, import.meta.url));
  const child = spawn(process.execPath, [main, ...args], { stdio: 'inherit', timeout: TIMEOUT_MS });
  const [code] = (await once(child, 'close')) as [number | null];
  console.log(
    `--- ${name}: ${code === 0 ? 'ran' : 'FAILED'}, ${((performance.now() - started) / 1000).toFixed(1)} s`,
  );
  return code === 0;
}

let failed = 0;
for (const [name, args] of Object.entries(BENCHES)) if (!(await run(name, args))) failed++;
console.log(`\n${Object.keys(BENCHES).length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

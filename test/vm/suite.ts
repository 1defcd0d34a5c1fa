/** `npm run test:vm`: everything that needs RDMA devices, on siw and on rxe. Ends with 1 when something fails. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CHECKOUT } from './checkout.ts';
import { BenchError, EXIT } from './failures.ts';
import { runInterop } from './interop/run.ts';
import { interruptSignal } from './interrupt.ts';
import { runInMachine } from './machine.ts';
import { type Bench, ensureBench } from './setup.ts';

type TestDevice = 'siw' | 'rxe';

const DEVICES: readonly TestDevice[] = ['siw', 'rxe'];
const SUITES = ['fabric', 'interop'] as const;
type Suite = (typeof SUITES)[number];

const FABRIC_BUILD = 'build/native-plain';
const FABRIC_TIMEOUT_MS = 20 * 60_000;
const MEMORY_MIB = 4096;
const VERBS = join(CHECKOUT, 'build/Release/rdma_migrate_verbs.so');

const say = (text: string): void => void process.stdout.write(`test:vm: ${text}\n`);

/** Compiling under emulation would take many times as long: what runs in the VM is built outside. */
function buildFabricTests(): void {
  const configure = ['-S', '.', '-B', FABRIC_BUILD, '-DRDMA_MIGRATE_TESTS=ON', '-DRDMA_MIGRATE_WERROR=ON'];
  const options = { cwd: CHECKOUT, stdio: 'inherit' } as const;
  execFileSync('cmake', [...configure, '--log-level=WARNING'], options);
  execFileSync('cmake', ['--build', FABRIC_BUILD, '--parallel', '2'], options);
}

function runFabric(bench: Bench, device: TestDevice, signal: AbortSignal): Promise<number> {
  const test = ['ctest', '--test-dir', FABRIC_BUILD, '-R', '^fabric', '--verbose', '--no-tests=error'];
  return runInMachine(bench, {
    device,
    memoryMiB: MEMORY_MIB,
    forward: [],
    unprivileged: false,
    timeoutMs: FABRIC_TIMEOUT_MS,
    verbose: false,
    command: ['env', 'RDMA_MIGRATE_PROVIDER=verbs', ...test],
    stdout: process.stdout,
    stderr: process.stderr,
    signal,
  });
}

interface Step {
  readonly name: string;
  readonly exitCode: number;
  readonly seconds: number;
}

async function step(name: string, run: () => Promise<number>): Promise<Step> {
  say(`=== ${name}`);
  const started = performance.now();
  const exitCode = await run().catch((error: unknown) => {
    if (!(error instanceof BenchError) || error.exitCode >= 128) throw error;
    say(error.message);
    return error.exitCode;
  });
  return { name, exitCode, seconds: (performance.now() - started) / 1000 };
}

async function runSteps(devices: readonly TestDevice[], suites: readonly Suite[]): Promise<Step[]> {
  const signal = interruptSignal();
  const bench = await ensureBench(say);
  const verbs = existsSync(VERBS);
  if (!verbs)
    say(
      `NOT RUN: fabric suite and our end on the devices: there is no ${VERBS}. Install libibverbs-dev and librdmacm-dev ` +
        'and build again (npm run build)',
    );
  if (suites.includes('fabric') && verbs) buildFabricTests();
  const steps: Step[] = [];
  for (const device of devices) {
    if (suites.includes('fabric') && verbs)
      steps.push(
        await step(`fabric suite, provider verbs on ${device}`, () => runFabric(bench, device, signal)),
      );
    if (suites.includes('interop'))
      steps.push(
        await step(`interop with stock QEMU on ${device}`, () =>
          runInterop(bench, { device, verbs, signal }),
        ),
      );
  }
  return steps;
}

function chosen<T extends string>(known: readonly T[], wanted: string | undefined): readonly T[] {
  if (wanted === undefined) return known;
  const found = known.filter((name) => name === wanted);
  if (found.length === 0)
    throw new BenchError(EXIT.usage, `expected ${known.join(' or ')}, but got ${wanted}`);
  return found;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { device: { type: 'string' }, suite: { type: 'string' } } });
  const steps = await runSteps(chosen(DEVICES, values.device), chosen(SUITES, values.suite));
  for (const { name, exitCode, seconds } of steps)
    say(`${exitCode === 0 ? 'passed' : `FAILED (exit code ${exitCode})`}: ${name}, ${seconds.toFixed(0)} s`);
  return steps.length > 0 && steps.every(({ exitCode }) => exitCode === 0) ? 0 : 1;
}

process.exit(
  await main().catch((error: unknown) => {
    if (!(error instanceof BenchError)) throw error;
    say(error.message);
    return error.exitCode;
  }),
);

/** `npm run test:vm`: everything that needs RDMA devices, on siw and on rxe. Ends with 1 when something fails. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Device } from './arguments.ts';
import { CHECKOUT } from './checkout.ts';
import { BenchError, EXIT } from './failures.ts';
import { runInterop } from './interop/run.ts';
import { interruptSignal } from './interrupt.ts';
import { runInMachine } from './machine.ts';
import { type Bench, ensureBench } from './setup.ts';

type TestDevice = 'siw' | 'rxe';

const DEVICES: readonly TestDevice[] = ['siw', 'rxe'];
/** `without`: a machine without rdma-core, once. The others: on each device. */
const SUITES = ['fabric', 'device', 'limits', 'interop', 'without'] as const;
type Suite = (typeof SUITES)[number];

const FABRIC_BUILD = 'build/native-plain';
const TIMEOUT_MS = 20 * 60_000;
const MEMORY_MIB = 2048;
const VERBS = join(CHECKOUT, 'build/Release/rdma_migrate_verbs.so');

const say = (text: string): void => void process.stdout.write(`test:vm: ${text}\n`);

/** Compiling under emulation would take many times as long: what runs in the VM is built outside. */
function buildFabricTests(): void {
  const configure = ['-S', '.', '-B', FABRIC_BUILD, '-DRDMA_MIGRATE_TESTS=ON', '-DRDMA_MIGRATE_WERROR=ON'];
  const options = { cwd: CHECKOUT, stdio: 'inherit' } as const;
  execFileSync('cmake', [...configure, '--log-level=WARNING'], options);
  execFileSync('cmake', ['--build', FABRIC_BUILD, '--parallel', '2'], options);
}

interface Run {
  readonly bench: Bench;
  readonly device: Device;
  readonly signal: AbortSignal;
}

function runCommand({ bench, device, signal }: Run, command: readonly string[], unprivileged = false) {
  return runInMachine(bench, {
    device,
    memoryMiB: MEMORY_MIB,
    forward: [],
    unprivileged,
    timeoutMs: TIMEOUT_MS,
    verbose: false,
    command,
    stdout: process.stdout,
    stderr: process.stderr,
    signal,
  });
}

function runFabric(run: Run): Promise<number> {
  const tests = [
    'ctest',
    '--test-dir',
    FABRIC_BUILD,
    '-R',
    '^(fabric|verbs)',
    '--verbose',
    '--no-tests=error',
  ];
  return runCommand(run, ['env', 'RDMA_MIGRATE_PROVIDER=verbs', ...tests]);
}

function runOwn(run: Run, suite: 'device' | 'limits' | 'without'): Promise<number> {
  const inside = relative(CHECKOUT, fileURLToPath(new URL('device/inside.js', import.meta.url)));
  return runCommand(run, ['node', inside, suite], suite === 'limits');
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

const TITLES = {
  fabric: 'fabric suite, provider verbs',
  device: 'rdma-migrate at both ends',
  limits: 'rdma-migrate with 8 MiB of lockable memory',
  interop: 'interop with stock QEMU',
  without: 'a machine without rdma-core',
} as const;

/** What needs the verbs provider cannot run where it was not built. */
function runnable(suites: readonly Suite[]): readonly Suite[] {
  if (existsSync(VERBS)) return suites;
  say(
    `NOT RUN: all but our end outside the VM: there is no ${VERBS}. Install libibverbs-dev and librdmacm-dev ` +
      'and build again (npm run build)',
  );
  return suites.filter((suite) => suite === 'interop');
}

function runSuite(run: Run, suite: Suite): Promise<number> {
  if (suite === 'fabric') return runFabric(run);
  if (suite !== 'interop') return runOwn(run, suite);
  const device = run.device as TestDevice;
  return runInterop(run.bench, { device, verbs: existsSync(VERBS), signal: run.signal });
}

async function runSteps(devices: readonly TestDevice[], wanted: readonly Suite[]): Promise<Step[]> {
  const signal = interruptSignal();
  const bench = await ensureBench(say);
  const suites = runnable(wanted);
  if (suites.includes('fabric')) buildFabricTests();
  const steps: Step[] = [];
  for (const device of devices) {
    for (const suite of suites.filter((name) => name !== 'without'))
      steps.push(
        await step(`${TITLES[suite]}, on ${device}`, () => runSuite({ bench, device, signal }, suite)),
      );
  }
  if (suites.includes('without'))
    steps.push(await step(TITLES.without, () => runOwn({ bench, device: 'none', signal }, 'without')));
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

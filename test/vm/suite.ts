/**
 * `npm run test:vm [-- --every]`: everything that needs RDMA devices, on siw and on rxe, in one VM each, in parallel; with --every also on one device
 * what shows the same on the other. Ends with 1 if anything fails.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CHECKOUT } from './checkout.ts';
import { BenchError, EXIT } from './failures.ts';
import { MEMORY_MIB, withInteropSettings } from './interop/run.ts';
import { interruptSignal } from './interrupt.ts';
import { LinePrefix } from './line-prefix.ts';
import { runInMachine } from './machine.ts';
import { type Bench, ensureBench } from './setup.ts';
import { SUITES, type Suite, type SuitesSettings, suitesToRepeat } from './suites.ts';

type Device = SuitesSettings['device'];

const DEVICES: readonly Device[] = ['siw', 'rxe'];
const TIMEOUT_MS = 45 * 60_000;
const VERBS = join(CHECKOUT, 'build/Release/rdma_migrate_verbs.so');

const say = (text: string): void => void process.stdout.write(`test:vm: ${text}\n`);

/** Compiling under emulation would take many times as long: what runs in the VM is built outside. */
function buildFabricTests(): void {
  const build = ['-DPRESET=plain', '-DSTAGE=build', '-P', 'cmake/native-tests.cmake'];
  execFileSync('cmake', build, { cwd: CHECKOUT, stdio: 'inherit' });
}

interface Run {
  readonly bench: Bench;
  readonly device: Device;
  readonly suites: readonly Suite[];
  readonly every: boolean;
  readonly signal: AbortSignal;
}

/** All suites of a device in one boot. */
function boot({ bench, device, suites, every, signal }: Run): Promise<number> {
  const inside = relative(CHECKOUT, fileURLToPath(new URL('inside.js', import.meta.url)));
  return withInteropSettings({ device, every, verbs: existsSync(VERBS) }, async (interop) => {
    const settings: SuitesSettings = { device, suites, every, interop };
    const stdout = new LinePrefix(`${device}| `, process.stdout);
    const stderr = new LinePrefix(`${device}| `, process.stderr);
    try {
      return await runInMachine(bench, {
        device,
        memoryMiB: MEMORY_MIB,
        forward: interop.forward,
        unprivileged: false,
        timeoutMs: TIMEOUT_MS,
        verbose: false,
        command: ['node', inside, JSON.stringify(settings)],
        stdout,
        stderr,
        signal,
        inMemory: true,
      });
    } finally {
      for (const stream of [stdout, stderr]) stream.end();
    }
  });
}

interface Outcome {
  readonly device: Device;
  readonly exitCode: number;
  readonly seconds: number;
}

/** Once: a second time is a failure. */
async function bootAgainIfStuck(run: Run): Promise<number> {
  const exitCode = await boot(run);
  const suites = suitesToRepeat(exitCode, run.suites);
  if (suites.length === 0) return exitCode;
  say(
    `NOTE: the kernel of the VM with ${run.device} keeps an rdma_cm id for ever (above: cm_destroy_id_wait_timeout, and who waits where); ` +
      `no process can help it. A new VM runs the suites from there on: ${suites.join(', ')}`,
  );
  return boot({ ...run, suites });
}

async function outcomeOf(run: Run): Promise<Outcome> {
  const started = performance.now();
  const exitCode = await bootAgainIfStuck(run).catch((error: unknown) => {
    if (!(error instanceof BenchError) || error.exitCode >= 128) throw error;
    say(error.message);
    return error.exitCode;
  });
  return { device: run.device, exitCode, seconds: (performance.now() - started) / 1000 };
}

/** What needs the verbs provider cannot run if it was not built. */
function runnable(suites: readonly Suite[]): readonly Suite[] {
  if (existsSync(VERBS)) return suites;
  say(
    `NOT RUN: all but our end outside the VM: there is no ${VERBS}. Install libibverbs-dev and librdmacm-dev ` +
      'and build again (npm run build)',
  );
  return suites.filter((suite) => suite === 'interop');
}

/** What does not depend on the device runs once: `without` in the last VM, which has fewer cases with QEMU, as has `limits`. */
function suitesOf(wanted: readonly Suite[], device: Device, devices: readonly Device[]): readonly Suite[] {
  const once: Partial<Record<Suite, Device | undefined>> = {
    limits: devices.at(-1),
    without: devices.at(-1),
  };
  return wanted.filter((suite) => !(suite in once) || once[suite] === device);
}

/** Two VMs on two cores: a VM leaves its second core idle for a good part of the time. */
async function runDevices(
  devices: readonly Device[],
  wanted: readonly Suite[],
  every: boolean,
): Promise<Outcome[]> {
  const signal = interruptSignal();
  const bench = await ensureBench(say);
  const suites = runnable(wanted);
  if (suites.includes('fabric')) buildFabricTests();
  const runs = devices
    .map((device) => ({ bench, device, signal, every, suites: suitesOf(suites, device, devices) }))
    .filter((run) => run.suites.length > 0);
  return Promise.all(runs.map(outcomeOf));
}

function chosen<T extends string>(known: readonly T[], wanted: string | undefined): readonly T[] {
  if (wanted === undefined) return known;
  const found = known.filter((name) => name === wanted);
  if (found.length === 0)
    throw new BenchError(EXIT.usage, `expected ${known.join(' or ')}, but got ${wanted}`);
  return found;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      device: { type: 'string' },
      suite: { type: 'string' },
      every: { type: 'boolean', default: false },
    },
  });
  const { device: named, suite, every } = values;
  const outcomes = await runDevices(chosen(DEVICES, named), chosen(SUITES, suite), every);
  for (const { device, exitCode, seconds } of outcomes)
    say(
      `${exitCode === 0 ? 'passed' : `FAILED (exit code ${exitCode})`}: the VM with ${device}, ${seconds.toFixed(0)} s`,
    );
  return outcomes.length > 0 && outcomes.every(({ exitCode }) => exitCode === 0) ? 0 : 1;
}

process.exit(
  await main().catch((error: unknown) => {
    if (!(error instanceof BenchError)) throw error;
    say(error.message);
    return error.exitCode;
  }),
);

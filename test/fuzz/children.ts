/** Runs targets in processes of their own, and says how they ended. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChildPlan } from './child.ts';
import type { Report } from './runner.ts';

/** Compiled, as this file is. */
const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));
/** From build/fuzz/test/fuzz. */
const NATIVE = fileURLToPath(new URL('../../../native-asan/test/fuzz/native/native_fuzz', import.meta.url));
/** No case takes so long, on any machine. */
const HANG_MS = 60_000;
/** Of V8's heap, MiB: hostile input that fills it is a finding. */
const HEAP_MIB = 512;

/** Targets of native_fuzz, in test/fuzz/native. */
export const NATIVE_TARGETS = ['receiver', 'connections', 'handshake', 'records', 'pages'];

export function play(name: string, plan: ChildPlan, signal: AbortSignal): Promise<Report> {
  return NATIVE_TARGETS.includes(name) ? playNative(name, plan, signal) : playScript(name, plan, signal);
}

async function playScript(name: string, plan: ChildPlan, signal: AbortSignal): Promise<Report> {
  const began = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'rdma-migrate-fuzz-case-'));
  const file = openSync(join(folder, 'case'), 'w+');
  try {
    const child = fork(CHILD, [name, JSON.stringify(plan)], {
      execArgv: ['--expose-gc', `--max-old-space-size=${HEAP_MIB}`],
      stdio: ['ignore', 'inherit', 'pipe', 'ipc', file],
    });
    let report: Report | undefined;
    child.on('message', (message) => {
      report = message as Report;
    });
    const watch = new Watch(() => caseIn(file), child);
    const { said, how, early } = await ended(child, signal);
    watch.stop();
    if (early) return nothing(name, plan);
    const message = watch.hung ? `did not end within ${HANG_MS / 1000} s` : `${how}: ${said.slice(-2000)}`;
    return report ?? failed(name, plan, began, caseIn(file), message);
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}

async function playNative(name: string, plan: ChildPlan, signal: AbortSignal): Promise<Report> {
  const began = performance.now();
  const { seed, first, most, seconds } = plan;
  const limits = [
    ...(most === undefined ? [] : most === 1 ? ['--case', `${first}`] : ['--cases', `${most}`]),
    ...(seconds === undefined ? [] : ['--seconds', `${seconds}`]),
  ];
  const child = spawn(NATIVE, [name, '--seed', `${seed}`, ...limits, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => {
    output += bytes.toString();
  });
  const { said, how, early } = await ended(child, signal);
  if (early) return nothing(name, plan);
  try {
    const { findings, grown, ...report } = JSON.parse(output);
    return { ...report, failures: findings, ...(grown >= 0 && { grown }) };
  } catch {
    const at = Number(/--case (\d+)/.exec(said)?.[1] ?? -1);
    return failed(name, plan, began, at, `${how}: ${said.slice(-4000)}`);
  }
}

interface Ended {
  readonly said: string;
  readonly how: string;
  /** It was asked to end before it could listen. */
  readonly early: boolean;
}

/** How a child ended, and what it said on stderr. Aborted: it is asked to end after its case. */
async function ended(child: ChildProcess, signal: AbortSignal): Promise<Ended> {
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-10_000);
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop);
  try {
    const [code, killedBy] = await once(child, 'close');
    const early = signal.aborted && killedBy === 'SIGTERM';
    return { said, how: killedBy ? `died of ${killedBy}` : `ended with ${code}`, early };
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function nothing(name: string, { seed }: ChildPlan): Report {
  return { name, seed, cases: 0, seconds: 0, hits: {}, failures: [] };
}

function failed(name: string, { seed }: ChildPlan, began: number, index: number, message: string): Report {
  const seconds = (performance.now() - began) / 1000;
  return { name, seed, cases: index + 1, seconds, hits: {}, failures: [{ case: index, message }] };
}

/** The case that is being played; -1: none has begun. */
function caseIn(file: number): number {
  const number = Buffer.alloc(8);
  return readSync(file, number, 0, 8, 0) === 8 ? number.readDoubleBE() : -1;
}

/** Kills a child whose case does not end. */
class Watch {
  hung = false;
  readonly #timer: NodeJS.Timeout;
  #seen = -2;
  #since = performance.now();

  constructor(current: () => number, child: ChildProcess) {
    this.#timer = setInterval(() => {
      const now = current();
      if (now !== this.#seen) this.#since = performance.now();
      else if (performance.now() - this.#since > HANG_MS) {
        this.hung = true;
        child.kill('SIGKILL');
      }
      this.#seen = now;
    }, 1000);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

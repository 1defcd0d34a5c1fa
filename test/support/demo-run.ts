/** A demo as users run it, and what it leaves. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';

/** Of one run. */
export const DEMO_TIMEOUT_MS = 180_000;

export interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** Runs `script` to its end. `interruptAt`: it gets one SIGTERM when it has printed that. */
export async function runDemo(
  script: string,
  args: readonly string[],
  { env = {}, interruptAt }: { env?: Readonly<Record<string, string>>; interruptAt?: string } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
    timeout: DEMO_TIMEOUT_MS,
  });
  let output = '';
  let interrupted = interruptAt === undefined;
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    output += part;
    if (interrupted || !output.includes(interruptAt ?? '')) return;
    interrupted = true;
    child.kill('SIGTERM');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

/** Files in shared memory and command lines of living processes that contain one of these texts. */
export async function traces(...texts: readonly string[]): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  const names = [...(await readdir('/dev/shm').catch(() => [])), ...lines];
  return names.filter((name) => texts.some((text) => name.includes(text)));
}

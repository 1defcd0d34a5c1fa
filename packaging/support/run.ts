import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** As seen from build/node/packaging/support. */
export const CHECKOUT = fileURLToPath(new URL('../../../../', import.meta.url));

interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a program whose output is for people to read. Throws when it fails. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<void> {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 2, 2] });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (code !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${code ?? signal}`);
}

/** Runs a program in the folder `options.cwd` and returns what it prints. Throws, with what it said, when it fails. */
export async function output(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const [[code, signal], printed, said] = await Promise.all([
    once(child, 'close') as Promise<[number | null, string | null]>,
    text(child.stdout),
    text(child.stderr),
  ]);
  if (code === 0) return printed;
  throw new Error(`${[command, ...args].join(' ')} ended with ${code ?? signal}: ${said || printed}`);
}

export const runTool = (command: string, ...args: readonly string[]): Promise<string> =>
  output(command, args);

/** The system that this runs on, as it calls itself: PRETTY_NAME of /etc/os-release. */
export async function systemName(): Promise<string> {
  const release = await readFile('/etc/os-release', 'utf8');
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(release)?.[1] ?? 'unknown';
}

/** For the end of a command: one line that says why it failed. */
export function endWith(error: Error): void {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}

/** Other programs that a benchmark runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { ownChild } from './leftovers.ts';

const TIMEOUT_MS = 300_000;

/** Runs a program to its end and gives its stdout. @throws Error with its stderr, when it fails or does not end in time */
export async function output(
  program: string,
  args: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<string> {
  const child = ownChild(spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] }));
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    const ended = once(child, 'close') as Promise<[number | null, string | null]>;
    const [stdout, stderr, [code, signal]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      ended,
    ]);
    if (code === 0) return stdout;
    const why = stderr.trim() || stdout.trim().slice(-500) || 'it said nothing';
    throw new Error(`${program} ${args[0] ?? ''} ended with ${signal ?? code}: ${why}`);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether it is installed; says so where it is not. `ask`: what it takes without doing anything. */
export async function isInstalled(program: string, remedy: string, ask = '--version'): Promise<boolean> {
  try {
    await output(program, [ask]);
    return true;
  } catch {
    console.error(`${program} is not installed, so it is left out: ${remedy}`);
    return false;
  }
}

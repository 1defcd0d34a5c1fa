/** What a benchmark would leave behind when it is interrupted: its children and its files. All of it goes, however it ends. */
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { constants } from 'node:os';

const children = new Map<ChildProcess, NodeJS.Signals>();
const paths = new Set<string>();

/** The child is killed when the benchmark ends, unless it has ended by then; by SIGTERM one that has children or files of its own. */
export function ownChild<C extends ChildProcess>(child: C, signal: NodeJS.Signals = 'SIGKILL'): C {
  children.set(child, signal);
  child.once('exit', () => children.delete(child));
  return child;
}

/** A file or folder that is removed when the benchmark ends. */
export function ownPath(path: string): string {
  paths.add(path);
  return path;
}

/** Now; safe to call again. */
export function removePath(path: string): void {
  rmSync(path, { recursive: true, force: true });
  paths.delete(path);
}

/** Kills and removes all of it; what is killed may take a moment to be gone. */
export function cleanUp(): void {
  for (const [child, signal] of children) child.kill(signal);
  for (const path of [...paths]) removePath(path);
}

export function endOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      process.stderr.write('\ninterrupted\n');
      cleanUp();
      process.exit(128 + constants.signals[signal]);
    });
  }
}

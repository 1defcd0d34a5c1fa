/** What a benchmark would leave behind when it is interrupted: its children and its files. All of it goes, however it ends. */
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { constants } from 'node:os';

const children = new Set<ChildProcess>();
const paths = new Set<string>();

/** The child is killed when the benchmark ends, unless it has ended by then. */
export function ownChild<C extends ChildProcess>(child: C): C {
  children.add(child);
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

export function cleanUp(): void {
  for (const child of children) child.kill('SIGKILL');
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

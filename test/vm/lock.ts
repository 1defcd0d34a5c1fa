/** One set-up at a time on a machine. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { unavailable } from './failures.ts';

/** Works while no other process does. However the holder of the lock ends, the kernel releases it. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const release = await acquire(file);
  try {
    return await work();
  } finally {
    await release();
  }
}

async function acquire(file: string): Promise<() => Promise<void>> {
  // It holds the lock until its stdin ends.
  const holder = spawn('flock', ['--no-fork', file, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = once(holder, 'close');
  const held = once(holder.stdout, 'data');
  held.catch(() => undefined);
  const first = await Promise.race([held.then(() => 'held'), ended.then(() => 'ended')]);
  if (first !== 'held') throw unavailable(`flock (package util-linux) could not lock ${file}`);
  return async () => {
    holder.stdin.end();
    await ended;
  };
}

/** One set-up at a time on a machine. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { unavailable } from './failures.ts';

/** Waits for its turn. The lock ends with its holder, however that one ends: the kernel releases it. */
export async function acquireLock(file: string): Promise<AsyncDisposable> {
  // flock(1) holds it and passes it to nobody (--close) until its stdin ends.
  const holder = spawn('flock', ['--no-fork', file, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = once(holder, 'close');
  const held = once(holder.stdout, 'data');
  held.catch(() => undefined);
  const first = await Promise.race([held.then(() => 'held'), ended.then(() => 'ended')]);
  if (first !== 'held') throw unavailable(`flock (package util-linux) could not lock ${file}`);
  return {
    async [Symbol.asyncDispose]() {
      holder.stdin.end();
      await ended;
    },
  };
}

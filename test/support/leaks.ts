/** What this process holds, by the kernel's count, which a series of failures must not increase. */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export interface Held {
  readonly descriptors: number;
  readonly threads: number;
  /** Mappings of files and shared memory. */
  readonly mappings: number;
  /** Private writable memory: control buffers, stacks, heaps. Heaps split and join their mappings, so these are not counted. */
  readonly dataMiB: number;
}

/** JavaScript's heap and malloc's arenas, of which each thread may get one, grow a little. */
const DATA_ALLOWED_MIB = 64;
const SETTLE_MS = 5_000;

export async function held(): Promise<Held> {
  collectGarbage();
  const maps = (await readFile('/proc/self/maps', 'utf8')).split('\n');
  const status = await readFile('/proc/self/status', 'utf8');
  return {
    descriptors: (await readdir('/proc/self/fd')).length,
    threads: (await readdir('/proc/self/task')).length,
    mappings: maps.filter((line) => line.includes('/')).length,
    dataMiB: Number(/^VmData:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024,
  };
}

/** Waits until no more is held than before, and returns what is held then, or at the deadline. */
export async function settled(before: Held): Promise<{ excess: Partial<Held> }> {
  for (let waited = 0; ; waited += 50) {
    const excess = excessOf(before, await held());
    if (Object.keys(excess).length === 0 || waited >= SETTLE_MS) return { excess };
    await delay(50);
  }
}

function excessOf(before: Held, now: Held): Partial<Held> {
  const allowed: Held = { ...before, dataMiB: before.dataMiB + DATA_ALLOWED_MIB };
  const keys = Object.keys(allowed) as (keyof Held)[];
  return Object.fromEntries(
    keys.filter((key) => now[key] > allowed[key]).map((key) => [key, now[key] - before[key]]),
  );
}

/** Objects that hold a descriptor until they are garbage collected would look like leaks. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

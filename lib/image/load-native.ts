import type { NativeMemory } from '../native/memory.ts';

/** Loads the addon only when RAM is mapped: `inspect` works without it. */
export async function loadNative(): Promise<NativeMemory> {
  return (await import('../native/index.ts')).native;
}

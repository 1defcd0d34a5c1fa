import type { NativeMemory } from '../native/memory.ts';

/** Loads the addon when RAM is mapped and not before: `inspect` works without it. */
export async function loadNative(): Promise<NativeMemory> {
  return (await import('../native/index.ts')).native;
}

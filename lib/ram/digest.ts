import { createHash } from 'node:crypto';
import type { RamBlock } from './vm.ts';

/** One digest (32 bytes) over the name, length and whole content of every block. Reads all RAM, in native code; holes cost nothing. */
export async function digestRam(blocks: readonly RamBlock[]): Promise<Uint8Array> {
  const hash = createHash('sha256');
  for (const { name, length, mapping } of blocks) {
    hash.update(`${JSON.stringify(name)} ${length} ${await mapping.digest()}\n`);
  }
  return new Uint8Array(hash.digest());
}

/** Memory of each kind that a VMM may have, and how much of it was ever touched. */
import { randomFillSync } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Mapping, mapCaller, mapFile } from '../../lib/index.ts';
import type { MapRam } from './memory-vm.ts';

const PAGE = 4096n;
const MARK_BYTES = 32;

/** New files in a folder, sparse. */
export function filesIn(folder: string): MapRam {
  let count = 0;
  return (_, length) => mapFile({ path: join(folder, `ram-${count++}`), length, mode: 'create' });
}

const held = new Set<ArrayBuffer>();

/** Private anonymous memory of this process, as in a VMM that does not share its guest's RAM. It is never freed. */
export async function anonymous(_: string, length: bigint): Promise<Mapping> {
  const memory = new ArrayBuffer(Number(length + 2n * PAGE));
  held.add(memory);
  const mark = randomFillSync(new Uint8Array(memory, 0, MARK_BYTES));
  const address = await addressOf(Buffer.from(mark), BigInt(memory.byteLength));
  return mapCaller({ address: (address / PAGE + 1n) * PAGE, length });
}

async function addressOf(mark: Buffer, length: bigint): Promise<bigint> {
  await using memory = await open('/proc/self/mem', 'r');
  const found = Buffer.alloc(MARK_BYTES);
  for (const line of (await readFile('/proc/self/maps', 'latin1')).split('\n')) {
    const [, from = '0', to = '0', inode] = /^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ (\d+)/.exec(line) ?? [];
    const [begin, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
    if (inode !== '0' || end - begin < length) continue;
    for (let at = begin; at + length <= end; at += PAGE) {
      // malloc puts 16 bytes in front of what it hands out.
      for (const address of [at, at + 16n]) {
        await memory.read(found, 0, MARK_BYTES, Number(address));
        if (found.equals(mark)) return address;
      }
    }
  }
  throw new Error('the memory was not found in /proc/self/maps');
}

/** Pages of a mapping that hold data: for a file its blocks, for other memory what the page tables have. */
export async function touchedPages(mapping: Mapping): Promise<number> {
  const inode = mapping.kind === 'caller' ? undefined : await backing(mapping);
  if (inode !== undefined) return Number((await stat(inode)).blocks) / 8;
  await using pagemap = await open('/proc/self/pagemap', 'r');
  const entries = Buffer.alloc(Number(mapping.length / PAGE) * 8);
  await pagemap.read(entries, 0, entries.length, Number((mapping.address / PAGE) * 8n));
  let touched = 0;
  // Bit 63: present, bit 62: swapped.
  for (let at = 0; at < entries.length; at += 8) if (entries.readUInt8(at + 7) >> 6 !== 0) touched++;
  return touched;
}

/** The file of a mapping, reached through /proc. */
async function backing(mapping: Mapping): Promise<string> {
  const range = `${mapping.address.toString(16)}-${(mapping.address + mapping.length).toString(16)}`;
  return `/proc/self/map_files/${range}`;
}

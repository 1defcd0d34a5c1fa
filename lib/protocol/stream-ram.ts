/** The START of the ram section: which blocks the VM has. */
import type { RamBlockLayout } from '../ram/vm.ts';
import { RAM_FLAG } from './stream-format.ts';
import type { Step, StreamReader } from './stream-reader.ts';

/** The most commands of one control message; a VM has some ten blocks, and a few more per hot-plugged memory device. */
export const RAM_BLOCKS_MAX = 4096;

export interface BlockListForm {
  readonly pageSize: number;
  /** A guest-physical address after every length (x-ignore-shared). */
  readonly guestAddresses: boolean;
}

/** Reads `total | MEM_SIZE` and the blocks, until their lengths add up to the total. */
export function* readBlocks(reader: StreamReader, form: BlockListForm): Step<RamBlockLayout[]> {
  const total = yield* readTotal(reader, form.pageSize);
  const blocks: RamBlockLayout[] = [];
  const names = new Set<string>();
  for (let left = total; left > 0n; ) {
    const block = yield* readBlock(reader, form, left);
    if (names.has(block.name)) reader.fail(`two RAM blocks named ${block.name}`);
    if (blocks.length === RAM_BLOCKS_MAX) reader.fail(`more than ${RAM_BLOCKS_MAX} RAM blocks`);
    names.add(block.name);
    blocks.push(block);
    left -= block.length;
  }
  return blocks;
}

function* readTotal(reader: StreamReader, pageSize: number): Step<bigint> {
  const word = yield* reader.u64();
  const total = word - RAM_FLAG.MEM_SIZE;
  if (total <= 0n || total % BigInt(pageSize) !== 0n) {
    reader.fail(`0x${word.toString(16)} where the total length of RAM must be`, { pageSize });
  }
  return total;
}

function* readBlock(reader: StreamReader, form: BlockListForm, left: bigint): Step<RamBlockLayout> {
  const name = yield* reader.countedName('RAM block name');
  const length = yield* reader.u64();
  if (length === 0n || length % BigInt(form.pageSize) !== 0n) {
    reader.fail(`RAM block ${name} with ${length} bytes, expected a multiple of ${form.pageSize}`);
  }
  if (length > left) reader.fail(`RAM block ${name} with ${length} bytes where the total leaves ${left}`);
  return form.guestAddresses ? { name, length, guestAddress: yield* reader.u64() } : { name, length };
}

/** Reads one word that must be `expected`, a flag and nothing else. */
export function* readFlag(reader: StreamReader, expected: 'HOOK' | 'EOS'): Step<void> {
  const word = yield* reader.u64();
  if (word === RAM_FLAG[expected]) return;
  if ((word & RAM_FLAG.MULTIFD_FLUSH) !== 0n) {
    reader.fail(
      'a mark of multifd (MULTIFD_FLUSH), whose pages travel on other channels: switch the capability multifd off',
      { word },
    );
  }
  reader.fail(`0x${word.toString(16)} (${flagNames(word)}) in its ram section, expected ${expected}`, {
    word,
  });
}

function flagNames(word: bigint): string {
  const names = Object.entries(RAM_FLAG).filter(([, flag]) => (word & flag) !== 0n);
  return names.length === 0 ? 'no known flag' : names.map(([name]) => name).join(' | ');
}

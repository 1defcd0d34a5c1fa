/** A VM in memory whose every byte can be recognised: in RAM, in the names of its blocks, in its device state. */
import type { RamBlock, SourceVm } from '../../../lib/index.ts';
import { description, device } from '../../protocol/streams.ts';
import { MemoryVm, noise, PAGE, peek, poke } from '../../support/memory-vm.ts';

/** 32 bytes, over and over in every second page. */
export const TEXT = Buffer.from('the password of guest is: hunter');
export const NAMES = ['pc.ram', 'the-vault.ram'] as const;
export const DEVICE_TEXT = 'the key in the register of this device';

const SAMPLES_OF_A_PAGE = 8;
const SAMPLE_BYTES = 16;

export class SecretVm implements AsyncDisposable {
  readonly source: SourceVm;
  /** Of each block. */
  readonly content: readonly Buffer[];
  readonly #memory: MemoryVm;

  private constructor(memory: MemoryVm, content: readonly Buffer[]) {
    this.#memory = memory;
    this.content = content;
    const { layout, blocks, ramSection, before } = memory;
    this.source = { layout, blocks, ramSection, before, after };
  }

  /** Two blocks of `pages` pages each: text and noise by turns. */
  static async create(pages: number): Promise<SecretVm> {
    const length = BigInt(pages) * PAGE;
    const memory = await MemoryVm.create({ [NAMES[0]]: length, [NAMES[1]]: length });
    const text = Buffer.alloc(Number(PAGE), TEXT);
    const content = memory.blocks.map(() => {
      const bytes = noise(length);
      for (let page = 0; page < pages; page += 2) text.copy(bytes, page * Number(PAGE));
      return bytes;
    });
    for (const [index, block] of memory.blocks.entries()) await poke(block, 0n, content[index] as Buffer);
    return new SecretVm(memory, content);
  }

  /** Pieces of its noise, none of which comes twice in any other bytes. */
  get samples(): Buffer[] {
    const step = Number(PAGE) / SAMPLES_OF_A_PAGE;
    const places = (bytes: Buffer): number[] =>
      Array.from({ length: bytes.length / step }, (_, index) => index * step).filter(
        (at) => Math.floor(at / Number(PAGE)) % 2 === 1,
      );
    return this.content.flatMap((bytes) => places(bytes).map((at) => bytes.subarray(at, at + SAMPLE_BYTES)));
  }

  /** Whether these blocks hold what this VM had when it was made. */
  async isIn(blocks: readonly RamBlock[]): Promise<boolean> {
    if (blocks.length !== this.content.length) return false;
    for (const [index, block] of blocks.entries()) {
      const own = this.content[index] as Buffer;
      if (Number(block.length) !== own.length || !(await peek(block, 0n, block.length)).equals(own))
        return false;
    }
    return true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#memory[Symbol.asyncDispose]();
  }
}

async function* after(): AsyncGenerator<Uint8Array> {
  yield device(40, 'timer', Buffer.from(DEVICE_TEXT));
  yield description([{ name: 'timer', instance_id: 0 }]);
}

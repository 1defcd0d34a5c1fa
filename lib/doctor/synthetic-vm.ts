/** A small VM in memory that never runs: a source to send it, a target to receive it, and a comparison of the two. */
import { randomFillSync } from 'node:crypto';
import type { NativeMapping, NativeMemory } from '../native/memory.ts';
import { sealDeviceState, streamHeader } from '../protocol/framing.ts';
import { RAM_FLAG } from '../protocol/stream-format.ts';
import { Writer } from '../protocol/writer.ts';
import type { DestinationTarget, RamBlock, ReceivedVm, SourceVm } from '../ram/vm.ts';

export const PAGE_SIZE = 4096;
const BLOCK_NAME = 'test.ram';
const MACHINE = 'rdma-migrate-self-test';
const STRIPE = 1n << 20n;
/** Three of every four stripes of 1 MiB have content, the fourth is zero. */
const STRIPES_PER_ZERO = 4n;

const text = (value: string): Buffer => Buffer.from(value, 'latin1');

/** `bytes`: a multiple of 1 MiB. The caller closes the mapping of its block. */
export async function makeSyntheticVm(native: NativeMemory, bytes: bigint): Promise<SourceVm> {
  const mapping = await native.mapMemfd({ name: BLOCK_NAME, length: bytes });
  try {
    await fill(native, mapping);
  } catch (error) {
    await mapping.close();
    throw error;
  }
  return {
    layout: { machine: MACHINE, pageSize: PAGE_SIZE, blocks: [{ name: BLOCK_NAME, length: bytes }] },
    blocks: [{ name: BLOCK_NAME, length: bytes, mapping }],
    ramSection: { sectionId: 2, instanceId: 0 },
    before: streamHeader({ machine: MACHINE, pageSize: PAGE_SIZE }),
    async *after() {
      yield sealDeviceState({ pageSize: PAGE_SIZE });
    },
  };
}

/** JavaScript has no view of a mapping; a stream of page records reaches it. */
async function fill(native: NativeMemory, mapping: NativeMapping): Promise<void> {
  const reader = native.createPageReader([{ name: BLOCK_NAME, mapping }]);
  const content = randomFillSync(Buffer.alloc(Number(STRIPE)));
  for (let stripe = 0n; stripe * STRIPE < mapping.length; stripe++) {
    if (stripe % STRIPES_PER_ZERO === STRIPES_PER_ZERO - 1n) continue;
    // Each page holds its own address: a page in the wrong place changes the digest.
    await reader.push(pageRecords(content, stripe * STRIPE), 0);
  }
  await reader.push(new Writer(8).u64(RAM_FLAG.EOS).finish(), 0);
}

function pageRecords(content: Buffer, start: bigint): Uint8Array {
  const writer = new Writer(content.length + (content.length / PAGE_SIZE) * 32);
  for (let offset = 0; offset < content.length; offset += PAGE_SIZE) {
    const address = start + BigInt(offset);
    content.writeBigUInt64BE(address, offset);
    writer
      .u64(address | RAM_FLAG.PAGE)
      .u8(BLOCK_NAME.length)
      .bytes(text(BLOCK_NAME));
    writer.bytes(content.subarray(offset, offset + PAGE_SIZE));
  }
  return writer.finish();
}

/** Receives a VM into memory. Its owner closes it. */
export class MemoryTarget implements DestinationTarget, AsyncDisposable {
  readonly #native: NativeMemory;
  #blocks: readonly RamBlock[] = [];
  #deviceState = Buffer.alloc(0);

  constructor(native: NativeMemory) {
    this.#native = native;
  }

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const blocks: RamBlock[] = [];
    this.#blocks = blocks;
    for (const { name, length } of layout.blocks) {
      blocks.push({ name, length, mapping: await this.#native.mapMemfd({ name, length }) });
    }
    return blocks;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#deviceState = Buffer.concat([this.#deviceState, bytes]);
  }

  async commit(): Promise<void> {}

  async abort(): Promise<void> {
    await this.close().catch(() => undefined);
  }

  /** Whether RAM and device state are those of `vm`. Reads all RAM. */
  async equals(vm: SourceVm): Promise<boolean> {
    const pieces: Uint8Array[] = [];
    for await (const piece of vm.after()) pieces.push(piece);
    if (!this.#deviceState.equals(Buffer.concat(pieces))) return false;
    const digests = (blocks: readonly RamBlock[]) =>
      Promise.all(blocks.map(({ mapping }) => mapping.digest()));
    const [sent, received] = await Promise.all([digests(vm.blocks), digests(this.#blocks)]);
    return sent.join() === received.join();
  }

  async close(): Promise<void> {
    await Promise.all(this.#blocks.map(({ mapping }) => mapping.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A plain QEMU stream, or libvirt's file around one, on its way into memory: the native page reader is under it. */
import { type ErrorCode, MigrationError } from '../../../lib/errors.ts';
import { readQemuStream } from '../../../lib/image/read-qemu-stream.ts';
import { native } from '../../../lib/native/index.ts';
import type { RamBlock, ReceivedVm } from '../../../lib/ram/vm.ts';
import type { Random } from '../../campaign/random.ts';
import { Finding, triedLater } from '../judge.ts';
import { hostile32, mutate, pieces } from '../mutate.ts';
import { damagedStream, realPages, streamParts } from '../streams.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = [
  ...(['STREAM_ERROR', 'STREAM_TRUNCATED', 'VERSION_MISMATCH', 'BLOCK_MISMATCH'] as const),
  ...(['INVALID_ARGUMENT', 'RESOURCE_LIMIT'] as const),
];
/** What this target gives a VM: a stream that says more gets RESOURCE_LIMIT, from here. */
const MOST_RAM = 64n << 20n;
const PAGE = 4096;

export const importer: Target = {
  name: 'import',
  feeds:
    'readQemuStream with whole streams (made, and one of a real VM) and files of virsh save, damaged and in pieces',
  shortRun: 1000,
  reaches: ['undamaged', 'taken', 'virsh save', 'STREAM_ERROR', 'STREAM_TRUNCATED'],
  async play(random, hit) {
    const real = random.chance(0.002);
    if (real) hit('real VM');
    const parts = real ? [realPages()] : streamParts(random, 'pages');
    const damaged = random.chance(0.9);
    const plain = damaged ? damagedStream(random, parts) : Buffer.concat(parts);
    const wrapped = random.chance(0.2);
    const input = wrapped ? inSave(random, plain, damaged, hit) : plain;
    const target = new Memory();
    const facts = await triedLater(CODES, hit, () =>
      readQemuStream(chunks(pieces(random, input, 20)), target),
    );
    const { blocks } = target;
    if (facts && blocks.some(({ mapping }) => mapping.length === 0n))
      throw new Finding('a block without memory');
    await target.close();
    hit(damaged ? 'damaged' : 'undamaged');
    if (facts) hit('taken');
    // x-ignore-shared has to be asked for.
    else if (!damaged && !plain.includes('x-ignore-shared'))
      throw new Finding('an undamaged stream is refused');
  },
};

async function* chunks(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

class Memory {
  blocks: readonly RamBlock[] = [];

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const total = layout.blocks.reduce((sum, { length }) => sum + length, 0n);
    if (total > MOST_RAM) throw new MigrationError('RESOURCE_LIMIT', 'image', `no room for ${total} bytes`);
    for (const block of layout.blocks) {
      const length = ((block.length + BigInt(PAGE - 1)) / BigInt(PAGE)) * BigInt(PAGE);
      this.blocks = [...this.blocks, { ...block, mapping: await native.mapMemfd({ name: 'fuzz', length }) }];
    }
    return this.blocks;
  }

  async append(): Promise<void> {}

  async close(): Promise<void> {
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

/** `virsh save`: magic, version, length, running, format, cookie, unused; XML; the stream. */
function inSave(random: Random, stream: Buffer, damaged: boolean, hit: Hit): Buffer {
  hit('virsh save');
  const xml = Buffer.alloc(1 + random.below(300), 0x20);
  const header = Buffer.alloc(92);
  header.write('LibvirtQemudSave', 'latin1');
  header.writeUInt32LE(2, 16);
  header.writeUInt32LE(xml.length, 20);
  if (damaged && random.chance(0.3)) header.writeUInt32LE(hostile32(random), 4 * (4 + random.below(5)));
  return Buffer.concat([damaged && random.chance(0.3) ? mutate(random, header) : header, xml, stream]);
}

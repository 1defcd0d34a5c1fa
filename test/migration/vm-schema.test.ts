/** VMs and targets as an embedder in JavaScript may give them: what is wrong is refused before anything is opened, or moves. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MigrationDestination, MigrationError, MigrationSource, type RamBlock } from '../../lib/index.ts';
import { MemoryTarget, MemoryVm, migrateMemory } from '../support/memory-vm.ts';

const MIB = 1n << 20n;
let vm: MemoryVm;
let other: MemoryVm;
beforeAll(async () => {
  vm = await MemoryVm.create({ 'pc.ram': 4n * MIB, rom: 8192n });
  other = await MemoryVm.create({ 'pc.ram': 2n * MIB });
});
afterAll(async () => {
  await vm[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});

// biome-ignore lint/suspicious/noExplicitAny: an embedder in JavaScript has no types
type Untyped = any;

/** The VM's members, some of them others. */
const changed = (changes: object): Untyped => ({
  layout: vm.layout,
  blocks: vm.blocks,
  ramSection: vm.ramSection,
  before: vm.before,
  after: () => vm.after(),
  ...changes,
});
const layout = (changes: object) => changed({ layout: { ...vm.layout, ...changes } });
const blocks = (...changes: object[]) =>
  changed({ blocks: vm.blocks.map((block, index) => ({ ...block, ...changes[index] })) });
const both = (...changes: object[]) => ({
  ...blocks(...changes),
  layout: { ...vm.layout, blocks: vm.layout.blocks.map((block, index) => ({ ...block, ...changes[index] })) },
});
const guest = (changes: object) => {
  const nothing = async () => {};
  const tracker = { start: nothing, collect: nothing, stop: nothing };
  return changed({ guest: { tracker, pause: nothing, resume: nothing, ...changes } });
};

const WRONG_VMS: readonly [string, () => Untyped, string | RegExp][] = [
  ['no VM', () => undefined, 'expected an object for vm but received undefined'],
  [
    'a length that is a number',
    () => both({ length: 4_194_304 }),
    /^expected bytes, more than 0, as bigint for vm\.layout\.blocks\[0\]\.length but received 4194304 of type number; .* for vm\.blocks\[0\]\.length /,
  ],
  [
    'a length of 0',
    () => both({ length: 0n }),
    /for vm\.layout\.blocks\[0\]\.length but received 0n of type bigint/,
  ],
  ['no name', () => blocks({ name: '' }), /expected a name of 1 to 255 bytes for vm\.blocks\[0\]\.name/],
  ['a name of 256 bytes', () => blocks({}, { name: 'x'.repeat(256) }), /for vm\.blocks\[1\]\.name/],
  ['no mapping', () => blocks({ mapping: undefined }), /for vm\.blocks\[0\]\.mapping but received undefined/],
  [
    'a mapping that is a Buffer',
    () => blocks({ mapping: Buffer.alloc(8) }),
    /expected memory of mapMemfd, mapFile or mapCaller for vm\.blocks\[0\]\.mapping/,
  ],
  [
    'fewer blocks than the layout says',
    () => changed({ blocks: vm.blocks.slice(0, 1) }),
    'vm.layout.blocks has 2 blocks and vm.blocks 1: expected the same, in the same order',
  ],
  [
    'blocks in another order',
    () => changed({ blocks: [...vm.blocks].reverse() }),
    /^block 0 is 'pc\.ram' of 4194304 bytes in vm\.layout\.blocks and 'rom' of 8192 bytes in vm\.blocks: /,
  ],
  [
    'a block of another length',
    () => blocks({ length: 2n * MIB }),
    /^block 0 is 'pc\.ram' of 4194304 bytes in vm\.layout/,
  ],
  ['two blocks of one name', () => both({ name: 'rom' }), /^vm\.blocks has two blocks with the name 'rom'/],
  [
    'a mapping that is too short',
    () => blocks({ mapping: other.blocks[0]?.mapping }),
    'vm.blocks[0].length is 4194304 bytes, and its mapping has only 2097152',
  ],
  [
    'half a page',
    () => both({ length: 4n * MIB - 2048n }),
    'vm.blocks[0].length is 4192256 bytes, which are no whole pages of 4096 bytes',
  ],
  [
    'pages of 3 KiB',
    () => layout({ pageSize: 3072 }),
    /power of two .* for vm\.layout\.pageSize but received 3072/,
  ],
  [
    'pages as bigint',
    () => layout({ pageSize: 4096n }),
    /for vm\.layout\.pageSize but received 4096n of type bigint/,
  ],
  [
    'pages other than the stream’s',
    () => layout({ pageSize: 8192 }),
    /^vm\.before is the stream of a pc-i440fx-7\.2 with pages of 4096/,
  ],
  [
    'another machine',
    () => layout({ machine: 'q35' }),
    /^vm\.before is the stream of a pc-i440fx-7\.2 .* vm\.layout says q35/,
  ],
  [
    'no layout',
    () => changed({ layout: undefined }),
    /expected an object for vm\.layout but received undefined/,
  ],
  [
    'blocks that are no array',
    () => changed({ blocks: {} }),
    /expected an array for vm\.blocks but received an object/,
  ],
  [
    'a section as text',
    () => changed({ ramSection: { sectionId: '2', instanceId: 0 } }),
    /for vm\.ramSection\.sectionId/,
  ],
  [
    'a stream as text',
    () => changed({ before: 'QEVM' }),
    /expected a Uint8Array for vm\.before but received "QEVM"/,
  ],
  [
    'no after()',
    () => changed({ after: undefined }),
    /expected a function for vm\.after but received undefined/,
  ],
  ['a guest without pause', () => guest({ pause: undefined }), /expected a function for vm\.guest\.pause/],
  ['a tracker without collect', () => guest({ tracker: { start() {} } }), /for vm\.guest\.tracker\.collect/],
  ['a throttle that is a number', () => guest({ throttle: 20 }), /for vm\.guest\.throttle but received 20/],
  [
    'a switchover of NaN',
    () => guest({ switchoverMs: Number.NaN }),
    /for vm\.guest\.switchoverMs but received NaN/,
  ],
  [
    'a settling block that there is not',
    () => guest({ settling: ['vga'] }),
    /settling names 'vga', which is none of vm\.blocks/,
  ],
];

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(MigrationError);
    const { code, phase, message } = error as MigrationError;
    expect([code, phase], message).toEqual(['INVALID_ARGUMENT', 'configure']);
    return message;
  }
  throw new Error('nothing was refused');
}

describe('a source refuses a VM with', () => {
  it.each(WRONG_VMS)('%s', (_name, wrong, message) => {
    const said = refusal(() => new MigrationSource(wrong(), 'rdma:127.0.0.1:1'));
    if (typeof message === 'string') expect(said).toBe(message);
    else expect(said).toMatch(message);
  });

  it('nothing wrong, not', () => {
    new MigrationSource(changed({}), 'rdma:127.0.0.1:1');
    new MigrationSource(guest({ settling: ['rom'], switchoverMs: 0 }), 'rdma:127.0.0.1:1');
  });
});

describe('a destination refuses a target', () => {
  it.each(['allocate', 'append', 'commit', 'abort'])('without %s()', async (method) => {
    const nothing = async () => {};
    const target: Untyped = { allocate: nothing, append: nothing, commit: nothing, abort: nothing };
    delete target[method];
    const listening = MigrationDestination.listen('rdma:127.0.0.1:0', target);
    await expect(listening).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: `expected a function for target.${method} but received undefined`,
    });
  });

  const ALLOCATED: readonly [string, (blocks: readonly RamBlock[]) => Untyped, RegExp][] = [
    ['no array', () => undefined, /expected an array for what target\.allocate gave but received undefined/],
    ['too few blocks', (blocks) => blocks.slice(1), /has 2 blocks and what target\.allocate gave 1/],
    [
      'lengths as numbers',
      (blocks) => blocks.map((b) => ({ ...b, length: 5 })),
      /what target\.allocate gave\[0\]\.length/,
    ],
    ['other blocks', (blocks) => [...blocks].reverse(), /^block 0 is 'pc\.ram' .* in the VM and 'rom'/],
  ];
  it.each(ALLOCATED)('whose allocate() gives %s, before RAM moves', async (_name, give, message) => {
    class Wrong extends MemoryTarget {
      override async allocate(received: Untyped): Promise<Untyped> {
        return give(await super.allocate(received));
      }
    }
    await using target = new Wrong();
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
    const received = destination.receive();
    received.catch(() => {});
    const sent = new MigrationSource(vm, destination.uri).migrate();
    await expect(sent).rejects.toMatchObject({
      code: 'PEER_ERROR',
      details: { peerCode: 'INVALID_ARGUMENT' },
    });
    await expect(received).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });
});

describe('a VM that stands still, whose after()', () => {
  it.each<[string, () => AsyncIterable<Untyped>, RegExp]>([
    [
      'gives nothing',
      async function* () {},
      /\(vm\.after\(\)\) is not whole: it does not end with the description/,
    ],
    [
      'ends too early',
      async function* () {
        yield Buffer.alloc(100);
      },
      /is not whole: it does not end with the description/,
    ],
    [
      'gives text',
      async function* () {
        yield 'state';
      },
      /expected Uint8Arrays of vm\.after\(\) but received a piece of type string/,
    ],
  ])('%s, is not sent to a destination that would not take it', async (_name, after, message) => {
    await using target = new MemoryTarget();
    const phases: string[] = [];
    const moved = migrateMemory(changed({ after }), target, {}, {}, (source) =>
      source.on('phase', (phase) => phases.push(phase)),
    );
    await expect(moved).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
    // No RAM has moved.
    expect(phases).toEqual(['connect', 'negotiate', 'setup']);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { type StreamEvent, StreamParser } from '../../lib/protocol/stream.ts';
import { DeviceStateCheck } from '../../lib/protocol/tail.ts';
import { Builder, hex } from './builder.ts';
import { failure } from './errors.ts';
import {
  BLOCKS,
  beginning,
  blockList,
  capabilities,
  eos,
  footer,
  header,
  hook,
  pageBits,
  pageRecords,
  pagesStream,
  rdmaStream,
  run,
  SECTION,
  split,
  startHeader,
  upToBlocks,
} from './streams.ts';
import { qemuFiles } from './traces.ts';

const QEMU_BLOCKS = [
  { name: 'pc.ram', length: 0x2000000n },
  { name: '/rom@etc/acpi/tables', length: 0x20000n },
  { name: 'pc.bios', length: 0x40000n },
  { name: 'pc.rom', length: 0x20000n },
  { name: '/rom@etc/table-loader', length: 0x1000n },
  { name: '/rom@etc/acpi/rsdp', length: 0x1000n },
];

function checkTail(tail: Uint8Array) {
  const check = new DeviceStateCheck();
  check.push(tail);
  return check.result();
}

describe('captured streams', () => {
  it.each([
    ['pin-all', 4],
    ['dynamic', 5],
    ['running', 17],
  ] as const)('%s: machine, blocks, %i hooks and a whole tail', (name, hooks) => {
    const { parser, events, tail } = run('rdma', qemuFiles(name));
    const [configuration, start] = events;
    expect(configuration).toEqual({
      type: 'configuration',
      machine: 'pc-i440fx-7.2',
      capabilities: [],
      pageSize: 4096,
    });
    expect(start).toEqual({ type: 'ram-start', section: SECTION, blocks: QEMU_BLOCKS });
    const sections = events.flatMap((event) => (event.type === 'hook' ? [event.section] : []));
    expect(sections).toEqual(['start', ...Array(hooks - 2).fill('part'), 'end']);
    expect(events.at(-1)).toEqual({ type: 'ram-end' });
    expect(hex(parser.before)).toBe(hex(beginning().bytes()));
    const result = checkTail(tail);
    expect(result.complete && result.description.pageSize).toBe(4096);
    expect(result.complete && result.description.devices.length).toBeGreaterThan(20);
  });

  it('mismatch: the destination left at the first hook, nothing is whole', () => {
    const { events, tail } = run('rdma', qemuFiles('mismatch'));
    expect(events.map(({ type }) => type)).toEqual(['configuration', 'ram-start', 'hook']);
    expect(checkTail(tail).complete).toBe(false);
  });
});

const RDMA_EVENTS = ['configuration', 'ram-start', 'hook', 'hook', 'hook', 'ram-end'];
const PAGES_EVENTS = ['configuration', 'ram-start', 'pages', 'pages', 'ram-end'];
const TAIL = new Builder().hex('04000000aa').text('opaque').bytes();

describe('a plain stream', () => {
  it('stops exactly at the page records and goes on after them', () => {
    const { events, pages, tail } = run('pages', [pagesStream(TAIL)]);
    expect(events.map(({ type }) => type)).toEqual(PAGES_EVENTS);
    expect(events[1]).toEqual({ type: 'ram-start', section: SECTION, blocks: BLOCKS });
    expect(events[2]).toEqual({ type: 'pages', section: 'part' });
    expect(events[3]).toEqual({ type: 'pages', section: 'end' });
    expect(hex(pages)).toBe(hex(pageRecords()) + hex(eos()));
    expect(hex(tail)).toBe(hex(TAIL));
  });

  it('with x-ignore-shared gives guest addresses, and before without the capability', () => {
    const original = beginning().raw(capabilities('x-ignore-shared')).bytes();
    const blocks = BLOCKS.map((block, i) => ({ ...block, guestAddress: BigInt(i) << 40n }));
    const { parser, events } = run('pages', [pagesStream(TAIL, original, blocks)]);
    expect(events[0]).toMatchObject({ capabilities: ['x-ignore-shared'] });
    expect(events[1]).toEqual({ type: 'ram-start', section: SECTION, blocks });
    expect(hex(parser.before)).toBe(hex(beginning().bytes()));
  });

  it('with larger pages tells their size and keeps that subsection', () => {
    const before = beginning('virt-7.2').raw(pageBits(14)).bytes();
    const { parser, events } = run('pages', [pagesStream(TAIL, before, [{ name: 'ram', length: 0x4000n }])]);
    expect(events[0]).toEqual({
      type: 'configuration',
      machine: 'virt-7.2',
      capabilities: [],
      pageSize: 16384,
    });
    expect(hex(parser.before)).toBe(hex(before));
  });
});

describe('a UUID for the destination to compare', () => {
  it('is skipped and left out of before', () => {
    const uuid = new Builder().u8(5).counted('configuration/uuid').u32(1).raw(new Uint8Array(16).fill(0x11));
    const stream = rdmaStream(TAIL, beginning().raw(uuid.bytes()).bytes());
    const { parser, events } = run('rdma', split(stream, 5));
    expect(events.at(-1)).toEqual({ type: 'ram-end' });
    expect(hex(parser.before)).toBe(hex(beginning().bytes()));
  });
});

describe('the command to switch over', () => {
  const command = new Builder().u8(8).u16(11).u16(0).bytes();
  it('is skipped before START, before END, and left out of before', () => {
    const stream = upToBlocks(beginning().raw(command).bytes())
      .raw(hook())
      .raw(eos())
      .raw(footer())
      .raw(command)
      .raw(command)
      .raw(header(3))
      .raw(hook())
      .raw(eos())
      .raw(footer())
      .bytes();
    const { parser, events } = run('rdma', split(stream, 3));
    expect(events.at(-1)).toEqual({ type: 'ram-end' });
    expect(hex(parser.before)).toBe(hex(beginning().bytes()));
  });
});

describe('refused with STREAM_ERROR', () => {
  const start = upToBlocks(beginning().bytes()).raw(hook()).raw(eos());
  const inRam = new Builder().raw(start.bytes()).raw(footer()).bytes();
  const begin = () => beginning();
  const ram = () => beginning().raw(startHeader().bytes());
  const behindStart = (bytes: Uint8Array) => new Builder().raw(inRam).raw(bytes).bytes();
  const block = (name: string, length: bigint) => blockList([{ name, length }]);
  /** OPEN_RETURN_PATH and PING. */
  const returnPath = () => new Builder().u8(8).u16(1).u16(0).u8(8).u16(2).u16(4).u32(1);
  const many = Array.from({ length: 4097 }, (_, i) => ({ name: `b${i}`, length: 4096n }));
  const section = (type: number, name: string) =>
    new Builder().u8(type).u32(9).counted(name).u32(0).u32(1).bytes();

  it.each<[string, Uint8Array, string]>([
    ['another magic', new Builder().text('QEVN').bytes(), 'magic'],
    ['another version', new Builder().text('QEVM').u32(2).bytes(), 'version 2'],
    ['no CONFIGURATION', new Builder().text('QEVM').u32(3).u8(1).bytes(), 'CONFIGURATION'],
    ['a machine name too long', new Builder().text('QEVM').u32(3).u8(7).u32(256).bytes(), '256'],
    ['a machine name of 4 GiB', new Builder().text('QEVM').u32(3).u8(7).u32(0xffffffff).bytes(), 'machine'],
    ['an empty machine name', new Builder().text('QEVM').u32(3).u8(7).u32(0).bytes(), 'empty'],
    ['a machine name with a NUL', beginning('pc\0').u8(1).bytes(), 'unprintable'],
    ['another subsection', begin().u8(5).counted('configuration/else').u32(1).bytes(), 'else'],
    [
      'a subsection of version 2',
      begin().u8(5).counted('configuration/capabilities').u32(2).bytes(),
      'version 2',
    ],
    ['capabilities twice', begin().raw(capabilities()).raw(capabilities()).bytes(), 'twice'],
    ['another capability', begin().raw(capabilities('mapped-ram')).bytes(), 'mapped-ram'],
    ['a capability twice', begin().raw(capabilities('x-ignore-shared', 'x-ignore-shared')).bytes(), 'twice'],
    ['page bits of 9', begin().raw(pageBits(9)).bytes(), '2^9'],
    ['page bits of 17', begin().raw(pageBits(17)).bytes(), '2^17'],
    ['page bits twice', begin().raw(pageBits(12)).raw(pageBits(12)).bytes(), 'twice'],
    ['a subsection after a command', begin().u8(8).u16(11).u16(0).raw(capabilities()).bytes(), 'SUBSECTION'],
    ['a device before ram', begin().raw(section(4, 'virtio-mem-early')).bytes(), 'virtio-mem-early'],
    ['a START of another section', begin().raw(section(1, 'vfio')).bytes(), 'vfio'],
    ['ram as a FULL section', begin().raw(section(4, 'ram')).bytes(), 'ram'],
    ['EOF before ram', begin().u8(0).bytes(), 'EOF'],
    ['an unknown section type', begin().u8(99).bytes(), '99'],
    ['ram version 3', begin().raw(startHeader('ram', 3).bytes()).bytes(), 'version 3'],
    ['a return path', begin().raw(returnPath().u8(1).bytes()).bytes(), 'capability return-path'],
    ['a return path with data', begin().u8(8).u16(1).u16(1).bytes(), 'command 1'],
    [
      'a return path that postcopy opens',
      begin().raw(returnPath().bytes()).u8(8).u16(3).u16(16).bytes(),
      'capability postcopy-ram',
    ],
    ['advice for bitmaps of disks', begin().u8(8).u16(3).u16(0).bytes(), 'capability dirty-bitmaps'],
    ['COLO', begin().u8(8).u16(8).u16(0).bytes(), 'capability x-colo'],
    ['an unknown command', begin().u8(8).u16(77).u16(9).bytes(), 'command 77'],
    ['disks', begin().raw(section(1, 'block')).bytes(), 'capability block'],
    ['bitmaps of disks', begin().raw(section(1, 'dirty-bitmap')).bytes(), 'capability dirty-bitmaps'],
    ['a switch-over with data', begin().u8(8).u16(11).u16(1).bytes(), 'command 11'],
    ['a total without MEM_SIZE', ram().u64(0x4000n).bytes(), 'total'],
    ['a total of nothing', ram().u64(4n).bytes(), 'total'],
    ['a total of less than nothing', ram().u64(0n).bytes(), 'total'],
    ['a total of half a page', ram().u64(0x4804n).bytes(), 'total'],
    [
      'an empty block',
      ram()
        .raw(blockList([{ name: 'a', length: 0n }], 0x1000n))
        .bytes(),
      'multiple',
    ],
    [
      'a block of half a page',
      ram()
        .raw(blockList([{ name: 'a', length: 0x800n }], 0x1000n))
        .bytes(),
      'multiple',
    ],
    [
      'a block longer than the total',
      ram()
        .raw(blockList([{ name: 'a', length: 0x2000n }], 0x1000n))
        .bytes(),
      'leaves',
    ],
    [
      'lengths that wrap',
      ram()
        .raw(blockList([{ name: 'a', length: 0xffff_ffff_ffff_f000n }], 0x1000n))
        .bytes(),
      'leaves',
    ],
    [
      'two blocks of one name',
      ram()
        .raw(blockList([BLOCKS[0], BLOCKS[0]].map((b) => b as never)))
        .bytes(),
      'two RAM blocks',
    ],
    ['a block without a name', ram().raw(block('', 0x1000n)).bytes(), 'empty'],
    ['a block name with a newline', ram().raw(block('a\n', 0x1000n)).bytes(), 'unprintable'],
    ['a block name beyond ASCII', ram().raw(block('ä', 0x1000n)).bytes(), 'unprintable'],
    ['4097 blocks', ram().raw(blockList(many)).bytes(), '4096'],
    ['pages where the hook must be', upToBlocks(beginning().bytes()).u64(0x08n).bytes(), 'PAGE'],
    ['EOS where the hook must be', upToBlocks(beginning().bytes()).raw(eos()).bytes(), 'EOS'],
    ['a second hook', upToBlocks(beginning().bytes()).raw(hook()).raw(hook()).bytes(), 'HOOK'],
    ['a multifd flush', upToBlocks(beginning().bytes()).raw(hook()).u64(0x200n).bytes(), 'MULTIFD'],
    ['no footer', new Builder().raw(start.bytes()).u8(2).bytes(), 'footer'],
    ['another footer', new Builder().raw(start.bytes()).raw(footer(3)).bytes(), 'section 3'],
    ['a part of another section', behindStart(header(2, 3)), 'section 3'],
    ['a device between the parts', behindStart(section(4, 'timer')), 'background-snapshot'],
    ['a return path between the parts', behindStart(returnPath().u8(2).bytes()), 'return-path'],
    ['a second START', behindStart(startHeader().bytes()), 'ram'],
    ['EOF between the parts', behindStart(Uint8Array.of(0)), 'EOF'],
  ])('%s', (_name, bytes, why) => {
    const error = failure(() => run('rdma', [bytes]), 'STREAM_ERROR');
    expect(error.message).toContain(why);
    expect(failure(() => run('rdma', split(bytes, 1)), 'STREAM_ERROR').message).toBe(error.message);
  });

  it('a hook in a plain stream', () => {
    const bytes = upToBlocks(beginning().bytes()).raw(hook()).bytes();
    expect(failure(() => run('pages', [bytes]), 'STREAM_ERROR').message).toContain('HOOK');
  });

  it('the phase is setup before the parts of ram, ram after START', () => {
    expect(failure(() => run('rdma', [begin().u8(0).bytes()]), 'STREAM_ERROR').phase).toBe('setup');
    expect(failure(() => run('rdma', [behindStart(Uint8Array.of(0))]), 'STREAM_ERROR').phase).toBe('ram');
  });

  it('commands without end', () => {
    const command = new Builder().u8(8).u16(11).u16(0).bytes();
    const bytes = begin();
    for (let i = 0; i < 14_000; i++) bytes.raw(command);
    expect(failure(() => run('rdma', [bytes.bytes()]), 'STREAM_ERROR').message).toContain('65536');
  });

  it('4096 blocks are accepted', () => {
    const { events } = run('rdma', [upToBlocks(beginning().bytes(), many.slice(1)).bytes()]);
    expect(events[1]).toMatchObject({ type: 'ram-start', blocks: { length: 4096 } });
  });
});

describe('pieces', () => {
  const streams = [
    ['rdma', rdmaStream(TAIL, beginning().raw(pageBits(12)).bytes()), RDMA_EVENTS],
    ['pages', pagesStream(TAIL), PAGES_EVENTS],
  ] as const;

  it.each(streams)('%s: every split point gives the same events and the same tail', (form, stream, types) => {
    const whole = run(form, [stream]);
    expect(whole.events.map(({ type }) => type)).toEqual(types);
    for (let at = 0; at <= stream.length; at++) {
      const parts = run(form, [stream.subarray(0, at), stream.subarray(at)]);
      // Compared as text: 8000 deep comparisons would take seconds.
      if (show(parts.events) !== show(whole.events)) expect(parts.events).toEqual(whole.events);
      if (hex(parts.tail) !== hex(TAIL)) expect(hex(parts.tail)).toBe(hex(TAIL));
    }
  });

  it.each(streams)('%s: one byte at a time', (form, stream) => {
    const { events, pages, tail } = run(form, split(stream, 1));
    const whole = run(form, [stream]);
    expect(events).toEqual(whole.events);
    expect(hex(pages)).toBe(hex(whole.pages));
    expect(hex(tail)).toBe(hex(TAIL));
  });

  it.each(streams)('%s: every truncation waits for more', (form, stream) => {
    const end = stream.length - TAIL.length;
    for (let at = 0; at < end; at++) {
      const { events } = run(form, [stream.subarray(0, at)]);
      expect(events.at(-1)?.type, `cut at ${at}`).not.toBe('ram-end');
    }
  });

  it('what was pushed may be overwritten', () => {
    const stream = rdmaStream(TAIL);
    const buffer = new Uint8Array(7);
    const parser = new StreamParser('rdma');
    const types: string[] = [];
    for (const piece of split(stream, 7)) {
      buffer.set(piece);
      parser.push(buffer.subarray(0, piece.length));
      buffer.fill(0xff);
      for (let event = parser.next(); event; event = parser.next()) types.push(event.type);
    }
    expect(types).toEqual(RDMA_EVENTS);
  });

  it('bytes after a hook wait until next() is called', () => {
    const parser = new StreamParser('rdma');
    parser.push(rdmaStream(TAIL));
    const types = [1, 2, 3].map(() => parser.next()?.type);
    expect(types).toEqual(['configuration', 'ram-start', 'hook']);
    expect(parser.next()).toEqual({ type: 'hook', section: 'part' });
  });
});

describe('misuse', () => {
  it('is told apart from a bad stream', () => {
    const parser = new StreamParser('pages');
    failure(() => parser.before, 'INTERNAL');
    failure(() => parser.takeBuffered(), 'INTERNAL');
    parser.push(pagesStream(TAIL));
    while (parser.next()?.type !== 'pages');
    failure(() => parser.next(), 'INTERNAL');
    parser.takeBuffered();
    failure(() => parser.takeBuffered(), 'INTERNAL');
  });

  it('an error stays', () => {
    const parser = new StreamParser('rdma');
    parser.push(new Uint8Array(8));
    const error = failure(() => parser.next(), 'STREAM_ERROR');
    parser.push(rdmaStream(TAIL));
    expect(failure(() => parser.next(), 'STREAM_ERROR')).toBe(error);
  });
});

describe('hostile bytes', () => {
  /** As `run`, but ends at the first MigrationError; any other error passes through. */
  function survive(form: 'rdma' | 'pages', bytes: Uint8Array): StreamEvent[] {
    try {
      return run(form, [bytes]).events;
    } catch (error) {
      if (error instanceof MigrationError) return [];
      throw error;
    }
  }

  it('random bytes only ever bring a MigrationError', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void survive('rdma', bytes)));
    const tailed = fc.uint8Array({ maxLength: 200 }).map((bytes) => beginning().raw(bytes).bytes());
    fc.assert(fc.property(tailed, (bytes) => void survive('pages', bytes)));
  });

  it('a stream with one changed byte brings events or a MigrationError', () => {
    const stream = rdmaStream(TAIL);
    for (let at = 0; at < stream.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        const changed = stream.slice();
        changed[at] = (changed[at] as number) ^ flip;
        survive('rdma', changed);
      }
    }
  });
});

function show(events: readonly StreamEvent[]): string {
  return JSON.stringify(events, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value));
}

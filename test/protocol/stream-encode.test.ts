import { describe, expect, it } from 'vitest';
import { parseConfiguration } from '../../lib/protocol/stream-configuration.ts';
import {
  encodeEos,
  encodeFooter,
  encodeRamHeader,
  encodeRamRound,
  encodeRamStart,
  withCapabilities,
} from '../../lib/protocol/stream-encode.ts';
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
  run,
  SECTION,
  startHeader,
} from './streams.ts';
import { qemuFiles } from './traces.ts';

describe('the form rdma', () => {
  it('is cut where QEMU flushes', () => {
    const files = qemuFiles('pin-all');
    const { parser, events, tail } = run('rdma', files);
    const start = events[1];
    if (start?.type !== 'ram-start') throw new Error('no ram-start');
    const join = (...parts: Uint8Array[]) => hex(Buffer.concat(parts));
    const { section, blocks } = start;
    // PART came twice, the second time with FOOTER and header in two messages.
    expect(files.slice(0, 9).map(hex)).toEqual([
      join(parser.before, encodeRamStart(section, blocks, 'rdma')),
      join(encodeEos()),
      join(encodeFooter(section), encodeRamRound(section, 'part')),
      join(encodeEos()),
      join(encodeFooter(section)),
      join(encodeRamRound(section, 'part')),
      join(encodeEos()),
      join(encodeFooter(section)),
      join(encodeRamRound(section, 'end')),
    ]);
    expect(join(...files.slice(9))).toBe(join(encodeEos(), encodeFooter(section), tail));
  });
});

describe('the form pages', () => {
  it('gives all that stands around the page records', () => {
    const built = new Builder()
      .raw(beginning().bytes())
      .raw(encodeRamStart(SECTION, BLOCKS, 'pages'))
      .raw(encodeRamHeader(SECTION, 'part'))
      .raw(pageRecords())
      .raw(encodeFooter(SECTION))
      .raw(encodeRamHeader(SECTION, 'end'))
      .raw(encodeEos())
      .raw(encodeFooter(SECTION))
      .bytes();
    expect(hex(built)).toBe(hex(pagesStream(new Uint8Array(0))));
  });

  it('writes guest addresses when asked', () => {
    const blocks = BLOCKS.map((block, i) => ({ ...block, guestAddress: BigInt(i) << 32n }));
    const list = startHeader().raw(blockList(blocks)).raw(eos()).raw(footer()).bytes();
    expect(hex(encodeRamStart(SECTION, blocks, 'pages', { guestAddresses: true }))).toBe(hex(list));
    const plain = startHeader().raw(blockList(BLOCKS)).raw(eos()).raw(footer()).bytes();
    expect(hex(encodeRamStart(SECTION, blocks, 'pages'))).toBe(hex(plain));
    failure(() => encodeRamStart(SECTION, BLOCKS, 'pages', { guestAddresses: true }), 'INVALID_ARGUMENT');
  });
});

describe('pieces', () => {
  it('are the bytes of the specification', () => {
    const other = { sectionId: 0xdeadbeef, instanceId: 7 };
    expect(hex(encodeFooter(other))).toBe(hex(footer(0xdeadbeef)));
    expect(hex(encodeRamHeader(other, 'end'))).toBe(hex(header(3, 0xdeadbeef)));
    expect(hex(encodeRamRound(SECTION, 'part'))).toBe(hex(header(2)) + hex(hook()));
    expect(hex(encodeRamStart(other, BLOCKS, 'rdma')).slice(0, 34)).toBe(
      '01deadbeef0372616d0000000700000004',
    );
  });

  it('refuse no blocks, and names that a stream cannot carry', () => {
    failure(() => encodeRamStart(SECTION, [], 'rdma'), 'INVALID_ARGUMENT');
    for (const name of ['', 'é', 'a\n', 'a'.repeat(256)]) {
      failure(() => encodeRamStart(SECTION, [{ name, length: 4096n }], 'rdma'), 'INVALID_ARGUMENT');
    }
  });
});

describe('withCapabilities', () => {
  it('puts back what the normal form left out', () => {
    for (const first of [beginning(), beginning().raw(pageBits(16))]) {
      const normal = first.bytes();
      const original = first.raw(capabilities('x-ignore-shared')).bytes();
      expect(hex(withCapabilities(normal))).toBe(hex(original));
      failure(() => withCapabilities(original), 'INVALID_ARGUMENT');
    }
  });
});

describe('parseConfiguration', () => {
  it('reads the bytes before ram', () => {
    const before = beginning('virt-9.0').raw(pageBits(16)).raw(capabilities('x-ignore-shared')).bytes();
    expect(parseConfiguration(before)).toEqual({
      machine: 'virt-9.0',
      pageSize: 65536,
      capabilities: ['x-ignore-shared'],
    });
  });

  it('refuses every truncation, and more bytes than a configuration', () => {
    const before = beginning().raw(pageBits(12)).bytes();
    const whole = beginning().bytes().length;
    for (let at = 0; at < before.length; at++) {
      if (at !== whole) failure(() => parseConfiguration(before.subarray(0, at)), 'STREAM_TRUNCATED');
    }
    failure(() => parseConfiguration(new Builder().raw(before).u8(1).bytes()), 'STREAM_ERROR');
    failure(() => parseConfiguration(new Builder().raw(before).u8(8).u16(11).u16(0).bytes()), 'STREAM_ERROR');
  });
});

/**
 * A reader of QEMU's migration stream for tests, written from the bytes that QEMU 7.2 sends, so that the product's parser has something
 * independent to be compared with. It reads a whole stream in memory and knows only streams of stopped VMs.
 *
 *     "QEVM" u32, version 3 u32
 *     07 CONFIGURATION: length u32, machine name;
 *        with x-ignore-shared: 05, 1a "configuration/capabilities", version 1 u32, count u32, per capability: length u8, name
 *     01 START: section id u32, 03 "ram", instance u32, version 4 u32; total | 4 u64, where total counts the shared blocks too;
 *        per block: length u8, name, length u64, with x-ignore-shared also its guest address u64 (0 where it has none of its own); 10 EOS u64;
 *        7e FOOTER, section id u32
 *     02 PART, 03 END: section id u32; per page: offset | flags u64, without CONTINUE (20): length u8, block's name (a PART may begin
 *        with CONTINUE: the block is then that of the last page of the PART before);
 *        PAGE (08): the page; ZERO (02): the byte 0; then 10 EOS; FOOTER
 *     device sections; 00 EOF; 06 VMDESCRIPTION: length u32, JSON, which ends the stream
 */
const FLAG_ZERO = 0x02n;
const FLAG_MEM_SIZE = 0x04n;
const FLAG_PAGE = 0x08n;
const FLAG_EOS = 0x10n;
const FLAG_CONTINUE = 0x20n;
const FLAGS = 0xfffn;
const PAGE_SIZE = 4096;

export interface StreamBlock {
  readonly name: string;
  readonly length: bigint;
  readonly guestAddress: bigint | undefined;
}

export interface StreamPage {
  readonly block: string;
  readonly offset: bigint;
  /** undefined: a page of zeros. */
  readonly data: Buffer | undefined;
}

export interface QemuStream {
  readonly machine: string;
  readonly capabilities: readonly string[];
  readonly sectionId: number;
  readonly blocks: readonly StreamBlock[];
  readonly pages: readonly StreamPage[];
  /** From the first section after the END of ram up to EOF, without it. */
  readonly devices: Buffer;
  readonly vmDescription: unknown;
}

class Reader {
  readonly bytes: Buffer;
  position = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  take(length: number): Buffer {
    const end = this.position + length;
    if (end > this.bytes.length)
      throw new Error(`the stream ends at ${this.bytes.length}, expected ${end} bytes`);
    const part = this.bytes.subarray(this.position, end);
    this.position = end;
    return part;
  }

  u8 = () => this.take(1).readUInt8();
  u32 = () => this.take(4).readUInt32BE();
  u64 = () => this.take(8).readBigUInt64BE();
  text = () => this.take(this.u8()).toString('latin1');

  expect(what: string, found: unknown, expected: unknown): void {
    if (found !== expected)
      throw new Error(`${what} before byte ${this.position} is ${found}, expected ${expected}`);
  }
}

function readCapabilities(reader: Reader): string[] {
  if (reader.bytes[reader.position] !== 0x05) return [];
  reader.u8();
  reader.expect('subsection', reader.text(), 'configuration/capabilities');
  reader.expect('its version', reader.u32(), 1);
  return Array.from({ length: reader.u32() }, reader.text);
}

function readBlocks(reader: Reader, withAddress: boolean): StreamBlock[] {
  const blocks: StreamBlock[] = [];
  const total = reader.u64();
  reader.expect('flags', total & FLAGS, FLAG_MEM_SIZE);
  for (let left = total & ~FLAGS; left > 0n; left -= blocks.at(-1)?.length ?? 0n) {
    const name = reader.text();
    const length = reader.u64();
    blocks.push({ name, length, guestAddress: withAddress ? reader.u64() : undefined });
  }
  return blocks;
}

function readFooter(reader: Reader, sectionId: number): void {
  reader.expect('footer', reader.u8(), 0x7e);
  reader.expect('footer id', reader.u32(), sectionId);
}

function readPages(reader: Reader, lastBlock: string): StreamPage[] {
  const pages: StreamPage[] = [];
  let block = lastBlock;
  for (;;) {
    const word = reader.u64();
    const flags = word & FLAGS & ~FLAG_CONTINUE;
    if (word === FLAG_EOS) return pages;
    if ((word & FLAG_CONTINUE) === 0n) block = reader.text();
    if (block === '') throw new Error('the first page continues no block');
    if (flags === FLAG_ZERO) reader.expect('fill byte', reader.u8(), 0);
    else reader.expect('page flags', flags, FLAG_PAGE);
    const data = flags === FLAG_PAGE ? reader.take(PAGE_SIZE) : undefined;
    pages.push({ block, offset: word & ~FLAGS, data });
  }
}

function readRam(reader: Reader, sectionId: number): StreamPage[] {
  const pages: StreamPage[] = [];
  for (;;) {
    const type = reader.u8();
    reader.expect('section id', reader.u32(), sectionId);
    for (const page of readPages(reader, pages.at(-1)?.block ?? '')) pages.push(page);
    readFooter(reader, sectionId);
    if (type === 0x03) return pages;
    reader.expect('section type', type, 0x02);
  }
}

/** The last VMDESCRIPTION whose length reaches exactly to the end: device bodies in front of it are opaque. */
function findDescription(bytes: Buffer, from: number): { at: number; json: unknown } {
  for (
    let at = bytes.lastIndexOf('{"page_size"');
    at > from + 6;
    at = bytes.lastIndexOf('{"page_size"', at - 1)
  ) {
    if (bytes.readUInt16BE(at - 6) === 0x0006 && bytes.readUInt32BE(at - 4) === bytes.length - at) {
      return { at: at - 6, json: JSON.parse(bytes.toString('utf8', at)) };
    }
  }
  throw new Error('no EOF and VMDESCRIPTION that end the stream');
}

export function readStream(bytes: Buffer): QemuStream {
  const reader = new Reader(bytes);
  reader.expect('magic', reader.u32(), 0x5145564d);
  reader.expect('version', reader.u32(), 3);
  reader.expect('section type', reader.u8(), 0x07);
  const machine = reader.take(reader.u32()).toString('latin1');
  const capabilities = readCapabilities(reader);
  reader.expect('section type', reader.u8(), 0x01);
  const sectionId = reader.u32();
  reader.expect('section', reader.text(), 'ram');
  reader.expect('instance', reader.u32(), 0);
  reader.expect('section version', reader.u32(), 4);
  const blocks = readBlocks(reader, capabilities.includes('x-ignore-shared'));
  reader.expect('end of START', reader.u64(), FLAG_EOS);
  readFooter(reader, sectionId);
  const pages = readRam(reader, sectionId);
  const description = findDescription(bytes, reader.position);
  const devices = bytes.subarray(reader.position, description.at);
  return { machine, capabilities, sectionId, blocks, pages, devices, vmDescription: description.json };
}

/**
 * The same VM as a stream without x-ignore-shared: no capabilities in CONFIGURATION, no addresses in START, and the pages of `ram` in
 * the ram section. The device sections stay as they are.
 */
export function* withoutIgnoreShared(stream: QemuStream, name: string, ram: Buffer): Generator<Buffer> {
  yield Buffer.concat([
    u32(0x5145564d),
    u32(3),
    Buffer.of(0x07),
    u32(stream.machine.length),
    latin1(stream.machine),
  ]);
  const id = u32(stream.sectionId);
  const footer = Buffer.concat([u64(FLAG_EOS), Buffer.of(0x7e), id]);
  const total = stream.blocks.reduce((sum, block) => sum + block.length, 0n);
  yield Buffer.concat([Buffer.of(0x01), id, counted('ram'), u32(0), u32(4), u64(total | FLAG_MEM_SIZE)]);
  for (const block of stream.blocks) yield Buffer.concat([counted(block.name), u64(block.length)]);
  yield Buffer.concat([footer, Buffer.of(0x02), id]);
  for (const page of stream.pages) yield encodePage(page);
  for (let offset = 0; offset < ram.length; offset += PAGE_SIZE) {
    yield encodePage({ block: name, offset: BigInt(offset), data: ram.subarray(offset, offset + PAGE_SIZE) });
  }
  yield Buffer.concat([footer, Buffer.of(0x03), id, footer]);
  yield Buffer.concat([stream.devices, Buffer.of(0x00)]);
}

function encodePage({ block, offset, data }: StreamPage): Buffer {
  if (data === undefined) return Buffer.concat([u64(offset | FLAG_ZERO), counted(block), Buffer.of(0)]);
  return Buffer.concat([u64(offset | FLAG_PAGE), counted(block), data]);
}

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const counted = (text: string) => Buffer.concat([Buffer.of(text.length), latin1(text)]);

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

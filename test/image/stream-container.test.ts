/** Files that hold a QEMU stream in something else: told by name, with the command that helps, or read. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { fromQemu, readQemuStream } from '../../lib/image/index.ts';
import { MemoryTarget } from '../support/memory-vm.ts';
import { chunks, expectSmallImage, smallStream } from './stream.ts';
import { expectError, namesIn, temporaryFolder } from './support.ts';

const XML = Buffer.from('<domain type="kvm"><name>demo</name></domain>\0<cookie/>\0');

interface Save {
  readonly magic?: string;
  readonly version?: number;
  readonly length?: number;
  readonly running?: number;
  readonly format?: number;
  readonly littleEndian?: boolean;
}

/** A file of `virsh save`, built field by field. */
function save(stream: Uint8Array, options: Save = {}): Buffer {
  const { magic = 'LibvirtQemudSave', version = 2, length = XML.length, running = 1, format = 0 } = options;
  const header = Buffer.alloc(92);
  const view = new DataView(header.buffer, header.byteOffset);
  header.write(magic, 'latin1');
  for (const [index, value] of [version, length, running, format, 45].entries()) {
    view.setUint32(16 + 4 * index, value, options.littleEndian ?? true);
  }
  return Buffer.concat([header, XML, stream]);
}

describe('a compressed stream', () => {
  it.each([
    ['gzip', gzipSync(smallStream())],
    ['bzip2', Buffer.from('425a683931415926535900000000000000000000', 'hex')],
    ['zstd', Buffer.from('28b52ffd04580000000000000000000000000000', 'hex')],
    ['xz', Buffer.from('fd377a585a000004e6d6b4460000000000000000', 'hex')],
    ['lzop', Buffer.from('894c5a4f000d0a1a0a1040000000000000000000', 'hex')],
    ['lz4', Buffer.from('04224d1864400000000000000000000000000000', 'hex')],
  ])('by %s is told by name, with the command that decompresses it', async (name, bytes) => {
    await using folder = await temporaryFolder();
    const says = [`compressed with ${name}`, `${name} -dc FILE | rdma-migrate image from-qemu - DIR`];
    await expectError(fromQemu(chunks(bytes), folder.at('vm')), 'STREAM_ERROR', ...says);
    const single = Array.from(bytes.subarray(0, 20), (byte) => Buffer.of(byte));
    await expectError(fromQemu(chunks(...single), folder.at('vm')), 'STREAM_ERROR', ...says);
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it.each([
    ['an ELF file', Buffer.concat([Buffer.from('7f454c46', 'hex'), Buffer.alloc(100)]), 'ELF'],
    ['a kdump file', Buffer.concat([Buffer.from('KDUMP   '), Buffer.alloc(100)]), 'kdump'],
    ['a qcow2 disk', Buffer.concat([Buffer.from('514649fb', 'hex'), Buffer.alloc(100)]), 'loadvm'],
  ])('is not %s, which is told by name', async (_what, bytes, says) => {
    await using folder = await temporaryFolder();
    await expectError(fromQemu(chunks(bytes), folder.at('vm')), 'STREAM_ERROR', says);
  });
});

describe('a file of virsh save', () => {
  it.each([
    ['little endian', { littleEndian: true }, true],
    ['big endian', { littleEndian: false }, true],
    ['version 1', { version: 1 }, true],
    ['of a VM that stood still', { running: 0 }, false],
  ])('is read: %s', async (_what, options, running) => {
    await using folder = await temporaryFolder();
    const stream = smallStream();
    const result = await fromQemu(chunks(save(stream, options)), folder.at('vm'));
    expect(result).toMatchObject({
      savedWhileRunning: running,
      streamBytes: BigInt(stream.length),
      coverage: { state: 'whole' },
    });
    await expectSmallImage(folder.at('vm'));
  });

  it('is read split anywhere in its header, and byte by byte', async () => {
    await using folder = await temporaryFolder('/dev/shm');
    const bytes = save(smallStream());
    const begin = 92 + XML.length;
    for (let at = 0; at <= begin + 1; at++) {
      await fromQemu(chunks(bytes.subarray(0, at), bytes.subarray(at)), folder.at(`vm${at}`));
    }
    await expectSmallImage(folder.at('vm16'));
    const single = Array.from(bytes.subarray(0, begin + 20), (byte) => Buffer.of(byte));
    await fromQemu(chunks(...single, bytes.subarray(begin + 20)), folder.at('vm'));
    await expectSmallImage(folder.at('vm'));
  });

  it('is read into memory too', async () => {
    await using target = new MemoryTarget();
    const facts = await readQemuStream(chunks(save(smallStream())), target);
    expect(facts.coverage.state).toBe('whole');
  });

  it('that is cut before its stream begins is not taken', async () => {
    await using folder = await temporaryFolder();
    const bytes = save(smallStream());
    for (const at of [16, 50, 91, 92, 100, 92 + XML.length - 1]) {
      const reading = fromQemu(chunks(bytes.subarray(0, at)), folder.at('vm'));
      await expectError(reading, 'STREAM_TRUNCATED', 'virsh save');
    }
  });

  it('that libvirt has not completed is refused as such', async () => {
    await using folder = await temporaryFolder();
    const bytes = save(smallStream(), { magic: 'LibvirtQemudPart' });
    await expectError(fromQemu(chunks(bytes), folder.at('vm')), 'STREAM_ERROR', 'has not completed');
  });

  it.each([
    ['another version', { version: 3 }, 'version 3'],
    ['no XML', { length: 0 }, '0 bytes of XML'],
    ['XML without end', { length: 0xffff_ffff }, '4294967295 bytes of XML'],
    ['an unknown form', { format: 9 }, 'form 9'],
    ['the sparse form', { format: 6 }, 'sparse'],
  ])('with %s is refused', async (_what, options, says) => {
    await using folder = await temporaryFolder();
    await expectError(fromQemu(chunks(save(smallStream(), options)), folder.at('vm')), 'STREAM_ERROR', says);
  });

  it.each([
    [1, 'gzip'],
    [2, 'bzip2'],
    [3, 'xz'],
    [4, 'lzop'],
    [5, 'zstd'],
  ])('that is compressed in form %i is told by name, with the command', async (format, name) => {
    await using folder = await temporaryFolder();
    const reading = fromQemu(chunks(save(Buffer.alloc(100), { format })), folder.at('vm'));
    const command = `tail -c +${92 + XML.length + 1} FILE | ${name} -dc | rdma-migrate image from-qemu - DIR`;
    const error = await expectError(reading, 'STREAM_ERROR', `compressed with ${name}`);
    expect(error.message).toContain(command);
  });

  it('that is compressed is read by the command that the message has', async () => {
    await using folder = await temporaryFolder();
    const file = folder.at('saved');
    await writeFile(file, save(gzipSync(smallStream()), { format: 1 }));
    const tail = spawn('sh', ['-c', `tail -c +${92 + XML.length + 1} '${file}' | gzip -dc`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await fromQemu(tail.stdout, folder.at('vm'));
    await expectSmallImage(folder.at('vm'));
  });
});

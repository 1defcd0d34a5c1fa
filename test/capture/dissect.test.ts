/** Another program's reading of our wire: tshark dissects a capture of our own traffic as iWARP. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ImageWriter, MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { MIB, syntheticImage } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';

const run = promisify(execFile);

/** Why nothing can be captured here, and what to do. */
function captureMissing(): string | undefined {
  try {
    execFileSync('tshark', ['--version'], { stdio: 'ignore' });
  } catch {
    return 'tshark is not installed: apt-get install tshark';
  }
  return process.getuid?.() === 0 ? undefined : 'capturing on the loopback interface needs root';
}

interface Capture {
  readonly process: ChildProcess;
  /** What tshark says, up to its end. */
  said: string;
}

async function startCapture(port: number, file: string): Promise<Capture> {
  const capture = spawn('tshark', ['-i', 'lo', '-f', `tcp port ${port}`, '-B', '128', '-w', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const watched: Capture = { process: capture, said: '' };
  await new Promise<void>((resolve, reject) => {
    capture.stderr?.on('data', (chunk: Buffer) => {
      watched.said += chunk.toString();
      if (watched.said.includes('Capture started')) resolve();
    });
    capture.once('close', () => reject(new Error(`tshark did not begin to capture: ${watched.said}`)));
  });
  return watched;
}

/** RPC over RDMA guesses at any SEND; QEMU's protocol has no dissector. */
const read = (file: string, ...args: string[]) =>
  run('tshark', ['-r', file, '--disable-protocol', 'rpcordma', ...args], { maxBuffer: 256 << 20 });

const missing = captureMissing();
if (missing) console.warn(`NOT RUN: dissecting our traffic with tshark: ${missing}`);

describe.skipIf(missing)('a capture of our own traffic', () => {
  it.each([
    ['on, resumable', true, { windowMs: 1_000 }, [0, 3, 15]],
    ['off, as towards a QEMU', false, { windowMs: 0 }, [0, 3]],
  ])(
    'dissects as MPA, DDP and RDMAP without a malformed frame or a bad CRC, CRC %s',
    async (_, crc, resume, known) => {
      await using folder = await temporaryFolder();
      const from = join(folder.path, 'from');
      const file = join(folder.path, 'traffic.pcap');
      await using image = await syntheticImage(from, [{ name: 'pc.ram', length: 16n * MIB, fill: 'mixed' }]);
      await using target = await ImageWriter.open(join(folder.path, 'to'));
      await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
        crc,
        resume,
      });
      const capture = await startCapture(Number(destination.uri.split(':').at(-1)), file);
      const ended = once(capture.process, 'close');
      // Slower than tshark on a busy machine: of what is missing nothing can be read.
      const source = new MigrationSource(image, destination.uri, { maxBandwidth: 16n * MIB });
      try {
        await Promise.all([source.migrate(), destination.receive()]);
      } finally {
        await new Promise((resolve) => setTimeout(resolve, 500)); // the kernel hands packets over in blocks
        capture.process.kill('SIGINT');
        await ended;
      }
      expect(capture.said).not.toMatch(/[1-9]\d* packets? dropped/);
      const { stdout: packets } = await read(
        file,
        '-Y',
        'iwarp_ddp_rdmap',
        '-T',
        'fields',
        '-e',
        'iwarp_rdma.opcode',
      );
      const opcodes = new Set(
        packets
          .split(/[\s,]+/)
          .filter(Boolean)
          .map(Number),
      );
      // WRITE, SEND, and the acknowledgements and endings of a resumable queue pair.
      expect([...opcodes].sort((left, right) => left - right)).toEqual(known);
      const { stdout: bad } = await read(file, '-Y', '_ws.malformed or iwarp_mpa.bad_length');
      expect(bad).toBe('');
      const { stdout: details } = await read(file, '-V');
      const checks = details.match(/CRC check: .*/g) ?? [];
      // Without CRC the field is sent as zero and nothing is checked.
      expect(checks.length > 20).toBe(crc);
      expect(checks.filter((line) => !line.includes('Good CRC32'))).toEqual([]);
    },
    120_000,
  );
});

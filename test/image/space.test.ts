/** What is asked of the room that an image will take. */
import { describe, expect, it } from 'vitest';
import { checkRamFits, contentOfStream, type FreeSpace, freeSpace } from '../../lib/image/space.ts';
import { expectError } from './support.ts';

const MIB = 1n << 20n;
const PAGE = 4096n;

/** File systems by directory, in MiB free. */
const at =
  (free: Record<string, number | undefined>) =>
  async (directory: string): Promise<FreeSpace> => {
    const mib = free[directory];
    const device = BigInt(Object.keys(free).indexOf(directory));
    return { device, free: mib === undefined ? undefined : BigInt(mib) * MIB, isMemory: false };
  };
const share = (directory: string, mib: bigint) => ({ directory, ramBytes: mib * MIB });

describe('room for RAM', () => {
  it('is a matter of what is written, not of how large RAM is', async () => {
    await checkRamFits([share('/a', 8192n)], 192n * MIB, at({ '/a': 400 }));
    await checkRamFits([share('/a', 8192n)], undefined, at({ '/a': 1 }));
    const error = await expectError(
      checkRamFits([share('/a', 600n)], 500n * MIB, at({ '/a': 100 })),
      'DISK_FULL',
      '/a can take',
    );
    expect(error.details).toEqual({ needed: 500n * MIB, free: 100n * MIB });
  });

  it('is never more than RAM, however long the stream is', async () => {
    await checkRamFits([share('/a', 64n)], 1000n * MIB, at({ '/a': 64 }));
  });

  it('may be spread over file systems, and each has no more than its blocks take', async () => {
    const shares = [share('/a', 100n), share('/b', 100n), share('/a', 50n)];
    await checkRamFits(shares, 200n * MIB, at({ '/a': 100, '/b': 1000 }));
    const error = await expectError(
      checkRamFits(shares, 201n * MIB, at({ '/a': 100, '/b': 1000 })),
      'DISK_FULL',
      '/a and /b',
    );
    expect(error.details).toEqual({ needed: 201n * MIB, free: 200n * MIB });
  });

  it('is not asked of a file system that tells no size', async () => {
    await checkRamFits([share('/a', 8192n)], 8192n * MIB, at({ '/a': undefined }));
  });

  it('ends where a process can map no more', async () => {
    const error = await expectError(checkRamFits([share('/a', 1n << 30n)], undefined), 'OUT_OF_MEMORY');
    expect(error.details).toMatchObject({ needed: 1n << 50n });
  });
});

describe('the content of a stream', () => {
  it.each([
    [0n, 1000n],
    [1000n, 0n],
    [300n, 700n],
  ])('is told by its length: %i pages of data, %i of zeros', (data, zeros) => {
    const streamBytes = data * (PAGE + 8n) + zeros * 9n;
    const content = contentOfStream(streamBytes, (data + zeros) * PAGE);
    expect(content).toBe(data * PAGE);
  });

  it('is nothing where there is less than a record for each page', () => {
    expect(contentOfStream(100n, 1000n * PAGE)).toBe(0n);
  });
});

describe('free space', () => {
  it('on a tmpfs is bounded by memory, too', async () => {
    const little = await freeSpace('/dev/shm', () => 'MemAvailable:  8 kB\nSwapFree:  4 kB\n');
    expect(little).toMatchObject({ free: 12n * 1024n, isMemory: true });
    const much = await freeSpace('/dev/shm', () => undefined);
    expect(much.free).toBeGreaterThan(12n * 1024n);
  });
});

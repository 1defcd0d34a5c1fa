import { spawnSync } from 'node:child_process';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromQemu, ImageWriter } from '../../lib/image/index.ts';
import { chunks, contentOf, RAM, smallStream } from './stream.ts';
import { BEFORE, expectError, leftOpen, namesIn, PAGE, SMALL_VM, temporaryFolder } from './support.ts';

const MIB = 2 ** 20;
const DISK_MIB = 8;

/** Why no file system can be mounted here, or undefined. */
function mountMissing(): string | undefined {
  if (process.geteuid?.() !== 0) return 'mounting a small tmpfs needs root';
  const { status, stderr } = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt'], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  return status === 0 ? undefined : `mounting a tmpfs is not allowed here: ${stderr?.trim() ?? 'no unshare'}`;
}

const missing = mountMissing();
if (missing !== undefined) console.warn(`NOT RUN: a full disk: ${missing}`);

describe.skipIf(missing !== undefined)(
  `a full disk${missing === undefined ? '' : ` (not run: ${missing})`}`,
  () => {
    let folder: Awaited<ReturnType<typeof temporaryFolder>>;
    beforeAll(async () => {
      folder = await temporaryFolder();
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'none', folder.path]);
      expect(mounted.status).toBe(0);
    });
    afterAll(async () => {
      spawnSync('umount', [folder.path]);
      await folder[Symbol.asyncDispose]();
    });

    async function expectClean(freeBefore: number): Promise<void> {
      expect((await namesIn(folder.path)).filter((name) => name !== 'ballast')).toEqual([]);
      expect(await leftOpen(folder.path)).toEqual([]);
      expect((await statfs(folder.path)).bfree).toBe(freeBefore);
    }

    const free = async () => (await statfs(folder.path)).bfree;

    /** RAM of that many MiB without a zero page. */
    function fullStream(mib: number): Buffer {
      const count = (mib * MIB) / PAGE;
      const pages = Array.from({ length: count }, (_value, page) => ({
        block: RAM,
        page,
        fill: 1 + (page % 255),
      }));
      return smallStream({ blocks: [[RAM, count]], pages });
    }

    it('is told before any page is read when it is known how long the stream is', async () => {
      await writeFile(folder.at('ballast'), Buffer.alloc(6 * MIB, 1));
      const before = await free();
      const stream = fullStream(4);
      const known = { streamBytes: BigInt(stream.length) };
      let read = 0n;
      const onProgress = ({ done }: { done: bigint }): void => {
        read = done;
      };
      const error = await expectError(
        fromQemu(chunks(stream), folder.at('vm'), { ...known, onProgress }),
        'DISK_FULL',
        'can take',
      );
      const { needed, free: room } = error.details;
      expect([Number(needed), read]).toEqual([4 * MIB, 0n]);
      expect(Number(room)).toBeLessThanOrEqual(2 * MIB);
      await expectClean(before);
      await rm(folder.at('ballast'));
    });

    it('is none for a VM that has more RAM than the whole disk, and less content than is free', async () => {
      const count = (32 * MIB) / PAGE;
      const pages = Array.from({ length: count }, (_value, page) => ({
        block: RAM,
        page,
        ...(page < 1024 && { fill: 1 }),
      }));
      const stream = smallStream({ blocks: [[RAM, count]], pages });
      const known = { streamBytes: BigInt(stream.length) };
      await fromQemu(chunks(stream), folder.at('large'), known);
      await rm(folder.at('large'), { recursive: true });
    });

    it('ends a stream whose pages do not fit, with an error and not with a signal', async () => {
      await writeFile(folder.at('ballast'), Buffer.alloc(4 * MIB, 1));
      const before = await free();
      const stream = fullStream(6);
      const parts = Array.from({ length: 64 }, (_value, index) => {
        const size = Math.ceil(stream.length / 64);
        return stream.subarray(index * size, (index + 1) * size);
      });
      await expectError(fromQemu(chunks(...parts), folder.at('vm')), 'DISK_FULL', 'free');
      await expectClean(before);
    });

    it('ends a stream whose device state does not fit', async () => {
      const before = await free();
      const after = Buffer.alloc(6 * MIB, 7);
      const stream = smallStream({ after });
      await expectError(
        fromQemu(chunks(stream), folder.at('vm'), { acceptUnproven: true }),
        'DISK_FULL',
        'free space',
      );
      await expectClean(before);
    });

    it('takes a VM whose RAM is larger than the free space but sparse', async () => {
      const count = (7 * MIB) / PAGE;
      const pages = Array.from({ length: count }, (_value, page) => ({
        block: RAM,
        page,
        ...(page === 0 && { fill: 1 }),
      }));
      await fromQemu(chunks(smallStream({ blocks: [[RAM, count]], pages })), folder.at('vm'));
      await using image = await ImageWriter.open(folder.at('vm2'));
      const [block] = await image.allocate({ ...SMALL_VM, before: BEFORE });
      expect(block?.mapping.length).toBe(BigInt(16 * PAGE));
      expect(contentOf(RAM, count, pages).length).toBe(7 * MIB);
    });
  },
);

import { describe, expect, test } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { native } from '../../lib/native/index.ts';
import type { NativeMapping } from '../../lib/native/memory.ts';
import { chooseTracker } from '../../lib/ram/trackers/choose.ts';
import {
  probeTrackers,
  type TrackerSupport,
  type TrackOptions,
  trackDirty,
} from '../../lib/ram/trackers/index.ts';
import { makeTracker } from '../../lib/ram/trackers/track.ts';
import type { RamBlock } from '../../lib/ram/vm.ts';
import { MIB, PAGE, writePages } from '../memory/support.ts';

const EVERYTHING: TrackerSupport = { writeProtect: 'async', writeProtectProblem: '', softDirty: true };
const NOTHING: TrackerSupport = { writeProtect: null, writeProtectProblem: 'too old', softDirty: false };

async function makeBlock(length: bigint, name = 'pc.ram'): Promise<RamBlock & AsyncDisposable> {
  const mapping = await native.mapMemfd({ name, length });
  return { name, length, mapping, [Symbol.asyncDispose]: () => mapping.close() };
}

const bitmapFor = (mapping: NativeMapping) => native.createBitmap(Number(mapping.length) / mapping.pageSize);

describe('auto', () => {
  const logs = [{ address: 4096n }];
  test.each<[string, TrackOptions, TrackerSupport, string, RegExp]>([
    ['the log that was given', { logs, pid: 1, guestWritesHere: true }, EVERYTHING, 'bitmap', /logs/],
    ['soft-dirty of the process that was named', { pid: 77 }, EVERYTHING, 'soft-dirty', /77/],
    ['content where there is no soft-dirty', { pid: 77 }, NOTHING, 'hash', /CONFIG_MEM_SOFT_DIRTY/],
    [
      'write-protect if the guest writes here',
      { guestWritesHere: true },
      EVERYTHING,
      'write-protect',
      /PAGEMAP_SCAN/,
    ],
    ['content if the guest may write elsewhere', {}, EVERYTHING, 'hash', /mappings/],
    ['content where nothing can be protected', { guestWritesHere: true }, NOTHING, 'hash', /too old/],
  ])('takes %s', (_, options, support, kind, reason) => {
    const chosen = chooseTracker(options, support);
    expect(chosen.kind).toBe(kind);
    expect(chosen.reason).toMatch(reason);
  });

  test('names a fault thread as such', () => {
    const support: TrackerSupport = { ...EVERYTHING, writeProtect: 'fault-thread' };
    expect(chooseTracker({ guestWritesHere: true }, support).reason).toMatch(/fault thread/);
  });

  test('asks the probe about the blocks, and makes what it leads to', async () => {
    await using block = await makeBlock(MIB);
    const asked: (readonly RamBlock[])[] = [];
    const probe = async (blocks: readonly RamBlock[]) => {
      asked.push(blocks);
      return NOTHING;
    };
    await using tracker = await makeTracker([block], { guestWritesHere: true }, probe);
    expect(asked).toEqual([[block]]);
    expect(tracker).toMatchObject({ kind: 'hash', reason: 'too old' });
  });

  test('works on this machine, and the probe agrees', async () => {
    await using block = await makeBlock(MIB);
    const support = await probeTrackers([block]);
    await using tracker = await trackDirty([block], { guestWritesHere: true });
    expect(tracker.kind).toBe(support.writeProtect === null ? 'hash' : 'write-protect');
    await tracker.start();
  });
});

describe('each kind that this machine has', async () => {
  const support = await probeTrackers([]);
  if (support.writeProtect === null) console.log(`NOT RUN: write-protect: ${support.writeProtectProblem}`);

  test.skipIf(support.writeProtect === null)('write-protect finds what is written, once', async () => {
    await using block = await makeBlock(4n * MIB);
    await using tracker = await trackDirty([block], { kind: 'write-protect' });
    const bitmap = bitmapFor(block.mapping);
    await tracker.start();
    // Stores into the memory: what goes through the descriptor of a memfd is not seen.
    const guest = await native.mapCaller({ address: block.mapping.address, length: block.length });
    await writePages(guest, [
      [3, 1],
      [700, 2],
    ]);
    await guest.close();
    expect(await tracker.collect([bitmap])).toBe(2n);
    expect(bitmap.count()).toBe(2);
    expect(await tracker.collect([bitmap])).toBe(0n);
    expect(tracker.sent).toBeUndefined();
  });

  test('hash finds what the peer does not have', async () => {
    await using block = await makeBlock(4n * MIB);
    await using tracker = await trackDirty([block], { kind: 'hash', hashThreads: 2 });
    const bitmap = bitmapFor(block.mapping);
    await tracker.start();
    await writePages(block.mapping, [[3, 1]]);
    expect(await tracker.collect([bitmap])).toBe(1n);
    expect(tracker.sent?.map(({ pages }) => pages)).toEqual([Number(4n * MIB) / PAGE]);
    expect(() => tracker.sent?.[0]?.setZero(1024, 1)).toThrow(/leave a table/);
  });

  test('bitmap takes the log', async () => {
    await using block = await makeBlock(4n * MIB);
    await using log = await makeBlock(MIB, 'log');
    await using tracker = await trackDirty([block], { logs: [{ address: log.mapping.address, offset: 8n }] });
    expect(tracker.kind).toBe('bitmap');
    const bitmap = bitmapFor(block.mapping);
    await tracker.start();
    await writePages(log.mapping, [[0, 0x11]]); // 2 of 8 bits; the log is 16 words for 1024 pages
    expect(await tracker.collect([bitmap])).toBe(256n);
    expect(await tracker.collect([bitmap])).toBe(0n);
  });

  test('soft-dirty refuses this process, and kernels without it say what is missing', async () => {
    await using block = await makeBlock(MIB);
    await expect(trackDirty([block], { kind: 'soft-dirty', pid: process.pid })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    if (support.softDirty) return;
    await using tracker = await trackDirty([block], { kind: 'soft-dirty', pid: process.ppid });
    await expect(tracker.start()).rejects.toMatchObject({
      code: 'TRACKER_UNAVAILABLE',
      message: expect.stringContaining('CONFIG_MEM_SOFT_DIRTY'),
    });
  });
});

describe('calls', () => {
  test.each<[TrackOptions, RegExp]>([
    [{ kind: 'bitmap' }, /`logs`/],
    [{ kind: 'soft-dirty' }, /`pid`/],
    [{ kind: 'hash', hashThreads: 65 }, /threads/],
    [{ kind: 'guess' as 'hash' }, /kind/],
    [{ logs: [] }, /one per block/],
  ])('%o is refused', async (options, message) => {
    await using block = await makeBlock(MIB);
    const error = await trackDirty([block], options).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(MigrationError);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) });
  });

  test('a second collect at once and bitmaps of another size are refused; stop is idempotent', async () => {
    await using block = await makeBlock(MIB);
    const tracker = await trackDirty([block], { kind: 'hash' });
    const bitmap = bitmapFor(block.mapping);
    await tracker.start();
    const first = tracker.collect([bitmap]);
    await expect(tracker.collect([bitmap])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await first;
    await expect(tracker.collect([native.createBitmap(7)])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await expect(tracker.collect([])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await tracker.stop();
    await tracker.stop();
    await expect(tracker.collect([bitmap])).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('a collect of much memory leaves the event loop free, and a stop ends it', async () => {
    await using block = await makeBlock(1024n * MIB);
    await block.mapping.populate(0n, block.length); // in use, so that it is read
    await using tracker = await trackDirty([block], { kind: 'hash', hashThreads: 1 });
    await tracker.start();
    let turns = 0;
    let collecting = true;
    const collected = tracker.collect([bitmapFor(block.mapping)]).finally(() => {
      collecting = false;
    });
    while (collecting) {
      turns += 1;
      await new Promise(setImmediate);
    }
    await collected;
    expect(turns).toBeGreaterThan(10);
    const cancelled = tracker.collect([bitmapFor(block.mapping)]);
    const outcome = expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    await tracker.stop();
    await outcome;
  });
});

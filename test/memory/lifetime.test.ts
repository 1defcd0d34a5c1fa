import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { native } from '../../lib/native/index.ts';
import { ADDON_PATH, failure, isMapped, MIB, writePages } from './support.ts';

test('close unmaps, is idempotent and refuses what comes later', async () => {
  const mapping = await native.mapMemfd({ name: 'closing', length: MIB });
  await Promise.all([mapping.close(), mapping.close()]);
  await mapping.close();
  expect(isMapped('memfd:closing')).toBe(false);
  expect(mapping).toMatchObject({ kind: 'memfd', length: MIB });
  const bitmap = native.createBitmap(256);
  const window = { offset: 0n, length: MIB, minZeroRun: 0n, mergeGap: 0n, mostRead: 1n << 40n };
  for (const call of [
    () => mapping.populate(0n, MIB),
    () => mapping.zero(0n, MIB, true),
    () => mapping.digest(),
    () => mapping.sync(),
    () => mapping.classify(bitmap, window),
  ]) {
    expect(await failure(call())).toMatchObject({ code: 'CLOSED' });
  }
  expect(() => native.createPageReader([{ name: 'a', mapping }])).toThrow(
    expect.objectContaining({ code: 'CLOSED' }),
  );
});

test('close cancels what is pending and resolves after it', async () => {
  const mapping = await native.mapMemfd({ name: 'pending', length: 2048n * MIB });
  const order: string[] = [];
  const pending = [mapping.populate(0n, 2048n * MIB), mapping.populate(0n, 2048n * MIB)].map((promise) =>
    failure(promise).then((error) => order.push(error.code ?? '')),
  );
  const closed = mapping.close().then(() => order.push('closed'));
  await Promise.all([...pending, closed]);
  expect(order).toEqual(['CANCELLED', 'CANCELLED', 'closed']);
  expect(isMapped('memfd:pending')).toBe(false);
});

test('close waits for a page reader and writer that are at work', async () => {
  const mapping = await native.mapMemfd({ name: 'at-work', length: 64n * MIB });
  await writePages(mapping, [[0, 1]]);
  const filling = native.createPageWriter([{ name: 'a', mapping }]).fill(new Uint8Array(1 << 20));
  const closed = mapping.close();
  expect((await filling).done).toBe(true);
  await closed;
  expect(isMapped('memfd:at-work')).toBe(false);
});

test('a mapping that was never closed is unmapped when it is garbage collected', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  // Not kept in this scope: the frame of an async function would hold it.
  await (async () => {
    const mapping = await native.mapMemfd({ name: 'garbage', length: MIB });
    expect(isMapped('memfd:garbage')).toBe(true);
    await mapping.digest();
  })();
  for (let i = 0; i < 100 && isMapped('memfd:garbage'); i++) {
    gc();
    await setTimeout(10);
  }
  expect(isMapped('memfd:garbage')).toBe(false);
});

test('an operation outlives a mapping object that was garbage collected', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const digest = native.mapMemfd({ name: 'orphan', length: MIB }).then((mapping) => mapping.digest());
  gc();
  expect(await digest).toMatch(/^[0-9a-f]{64}$/);
});

test('objects that are not mappings or bitmaps are refused, whatever they look like', async () => {
  const mapping = await native.mapMemfd({ name: 'real', length: MIB });
  const bitmap = native.createBitmap(256);
  const MappingClass = mapping.constructor as new () => typeof mapping;
  const BitmapClass = bitmap.constructor as new () => typeof bitmap;
  expect(await failure(new MappingClass().digest())).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(() => new BitmapClass().count()).toThrow();
  const window = { offset: 0n, length: MIB, minZeroRun: 0n, mergeGap: 0n, mostRead: 1n << 40n };
  for (const fake of [{}, mapping, Object.create(bitmap), new BitmapClass()]) {
    expect(await failure(mapping.classify(fake as typeof bitmap, window))).toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  }
  for (const fake of [{}, bitmap, Object.create(mapping), new MappingClass()]) {
    expect(() => native.createPageReader([{ name: 'a', mapping: fake as typeof mapping }])).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  }
  const count = bitmap.count;
  expect(() => count.call(mapping as unknown as typeof bitmap)).toThrow();
  await mapping.close();
});

const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const native = require(workerData.addon);
  (async () => {
    const mapping = await native.mapMemfd({ name: workerData.name, length: 1n << 30n });
    const bitmap = native.createBitmap(1 << 18);
    bitmap.setRange(0, 1 << 18);
    const found = await mapping.classify(bitmap, { offset: 0n, length: 1n << 30n, minZeroRun: 0n, mergeGap: 0n, mostRead: 1n << 40n });
    parentPort.postMessage(found.zeroPages);
    if (workerData.busy) {
      for (;;) await Promise.all([mapping.populate(0n, 1n << 28n), mapping.zero(0n, 1n << 28n, true)]);
    }
  })();
`;

test('the addon works in worker threads, which give everything back when they end', async () => {
  const run = async (i: number) => {
    const worker = new Worker(WORKER, { eval: true, workerData: { addon: ADDON_PATH, name: `worker-${i}` } });
    const [[zeroPages]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    return zeroPages as bigint;
  };
  expect(await Promise.all([1, 2, 3].map(run))).toEqual([1n << 18n, 1n << 18n, 1n << 18n]);
  expect(isMapped('memfd:worker-')).toBe(false);
});

test('a worker that is terminated in the middle of operations does not harm the process', async () => {
  for (let round = 0; round < 5; round++) {
    const workerData = { addon: ADDON_PATH, name: 'terminated', busy: true };
    const worker = new Worker(WORKER, { eval: true, workerData });
    await once(worker, 'message');
    await setTimeout(20 * round);
    await worker.terminate();
    expect(isMapped('memfd:terminated')).toBe(false);
  }
});

/** Bulk work has threads of its own: it keeps no connection waiting. */
import { availableParallelism } from 'node:os';
import { expect, it } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeMapping } from '../../lib/native/memory.ts';
import { ACCESS } from '../../lib/native/transport.ts';
import { NativePair } from '../transport/native-pair.ts';
import { MIB } from './support.ts';

/** native/pool.cc: as many as there are processors, within limits. */
const BULK_THREADS = Math.min(16, Math.max(4, availableParallelism()));
const WAITING = 3 * BULK_THREADS;

it.each<[string, (mapping: NativeMapping) => Promise<unknown>]>([
  ['digests', (mapping) => mapping.digest()],
  ['zeroes', (mapping) => mapping.zero(0n, mapping.length, false)],
])(
  'registrations, messages and closes go on while every bulk thread %s and others wait',
  async (_, begin) => {
    const pair = await NativePair.connect();
    const small = await native.mapMemfd({ name: 'pool-small', length: MIB });
    const large = await native.mapMemfd({ name: 'pool-large', length: 512n * MIB });
    await large.populate(0n, large.length);
    let done = 0;
    const work = Array.from({ length: BULK_THREADS + WAITING }, () =>
      begin(large).then(
        () => {
          done += 1;
        },
        () => {}, // cancelled, below
      ),
    );

    const access = ACCESS.localWrite | ACCESS.remoteWrite;
    const keys = await pair.destination.registerSpans(small, BigUint64Array.of(0n, MIB), access);
    await pair.destination.send(Buffer.from('REGISTER_RESULT'));
    expect(Buffer.from((await pair.source.receive()) ?? []).toString()).toBe('REGISTER_RESULT');
    await pair.destination.revokeRemoteAccess();
    await pair.destination.deregister(keys.subarray(0, 1));
    await pair[Symbol.asyncDispose]();
    // In one queue with them it would have come after all that waited had begun.
    expect(done).toBeLessThan(WAITING);

    await large.close();
    await Promise.all(work);
    await small.close();
  },
);

it('the software RNIC registers at once', async () => {
  await using pair = await NativePair.connect();
  const mapping = await native.mapMemfd({ name: 'pool-once', length: MIB });
  const keys = pair.source.registerSpans(mapping, BigUint64Array.of(0n, MIB), 0);
  expect(keys).toBeInstanceOf(Uint32Array);
  await pair.source.deregister((await keys).subarray(0, 1));
  await mapping.close();
});

it.each([
  ['behind the end', [MIB, 4096n]],
  ['over the end', [MIB - 4096n, 8192n]],
  ['past 2^64', [4096n, 2n ** 64n - 4096n]],
  ['the second of two', [0n, 4096n, MIB, 4096n]],
  ['half of a pair', [0n]],
])('neither registers nor writes a span %s', async (_, numbers) => {
  await using pair = await NativePair.connect();
  const mapping = await native.mapMemfd({ name: 'pool-bounds', length: MIB });
  const spans = BigUint64Array.from(numbers);
  expect(() => pair.source.registerSpans(mapping, spans, 0)).toThrow(/leaves the mapping/);
  const bitmap = native.createBitmap(Number(MIB / 4096n));
  const keys = new Uint32Array(spans.length);
  expect(() => pair.source.write({ mapping, bitmap, spans, keys, remoteAddress: 0n })).toThrow();
  await mapping.close();
});

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

    const region = await pair.destination.registerMemory(
      small,
      0n,
      MIB,
      ACCESS.localWrite | ACCESS.remoteWrite,
    );
    await pair.destination.send(Buffer.from('REGISTER_RESULT'));
    expect(Buffer.from((await pair.source.receive()) ?? []).toString()).toBe('REGISTER_RESULT');
    await pair.destination.revokeRemoteAccess();
    await region.close();
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
  const region = pair.source.registerMemory(mapping, 0n, MIB, 0);
  expect(region).not.toBeInstanceOf(Promise);
  expect(region).toMatchObject({ length: MIB });
  await (await region).close();
  expect(() => pair.source.registerMemory(mapping, MIB, 1n, 0)).toThrow(/leaves the mapping/);
  await mapping.close();
});

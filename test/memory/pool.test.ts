/** Bulk work has threads of its own: it keeps nothing waiting that is quick. */
import { availableParallelism } from 'node:os';
import { expect, it } from 'vitest';
import { native } from '../../lib/native/index.ts';
import { ACCESS } from '../../lib/native/transport.ts';
import { NativePair } from '../transport/native-pair.ts';
import { MIB } from './support.ts';

/** native/pool.cc: as many as there are processors, within limits. */
const BULK_THREADS = Math.min(16, Math.max(4, availableParallelism()));
const WAITING = 3 * BULK_THREADS;

it('registrations, messages, mappings and closes go on while every bulk thread digests and others wait', async () => {
  const pair = await NativePair.connect();
  const large = await native.mapMemfd({ name: 'pool-large', length: 512n * MIB });
  await large.populate(0n, large.length);
  let digested = 0;
  const digests = Array.from({ length: BULK_THREADS + WAITING }, () =>
    large.digest().then(
      () => {
        digested += 1;
      },
      () => {}, // cancelled, below
    ),
  );

  const small = await native.mapMemfd({ name: 'pool-small', length: MIB });
  await small.zero(0n, MIB, true);
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
  await small.close();
  await pair[Symbol.asyncDispose]();
  // In one queue with them it would have come after all that waited had begun.
  expect(digested).toBeLessThan(WAITING);

  await large.close();
  await Promise.all(digests);
});

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

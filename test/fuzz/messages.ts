/** Control messages as either end may send them, with fields that are right, nearly right, or any. */

import { MigrationError } from '../../lib/errors.ts';
import { CONTROL_TYPE, type ControlMessage, type ControlType } from '../../lib/protocol/messages.ts';
import { encodeReason } from '../../lib/protocol/reason.ts';
import type { Random } from '../campaign/random.ts';
import { hostile32, hostile64, randomBytes } from './mutate.ts';

const TYPES = Object.keys(CONTROL_TYPE) as ControlType[];

export function controlMessage(random: Random, type = random.pick(TYPES)): ControlMessage {
  switch (type) {
    case 'ERROR':
      return random.chance(0.3) ? { type } : { type, reason: reason(random) };
    case 'QEMU_FILE':
      return { type, bytes: randomBytes(random, 1 + random.below(64)) };
    case 'RAM_BLOCKS_RESULT':
      return { type, blocks: some(random, () => block(random)) };
    case 'COMPRESS':
      return {
        type,
        value: random.chance(0.8) ? 0 : hostile32(random),
        ...place(random),
        length: hostile64(random),
      };
    case 'REGISTER_REQUEST':
    case 'UNREGISTER_REQUEST':
      return { type, commands: some(random, () => command(random)) };
    case 'REGISTER_RESULT':
      return {
        type,
        results: some(random, () => ({ rkey: hostile32(random), hostAddress: hostile64(random) })),
      };
    case 'COMMIT':
      return { type, ...commit(random) };
    case 'COMMITTED':
      return {
        type,
        status: random.pick(['OK', 'COUNT_MISMATCH', 'SENT_DIGEST_MISMATCH', 'RAM_DIGEST_MISMATCH'] as const),
      };
    case 'PROGRESS':
      return { type, ...progress(random) };
    case 'DESCRIPTION':
      return { type, bytes: randomBytes(random, 1 + random.below(64)) };
    case 'STATUS':
      return { type, status: random.pick(['unknown', 'taken', 'not-taken', 'undecided'] as const) };
    case 'DIGESTS_REQUEST':
      return { type, ...place(random), length: hostile64(random) };
    case 'DIGESTS_RESULT':
      return { type, digests: randomBytes(random, 32 * (1 + random.below(8))) };
    default:
      return { type };
  }
}

function some<T>(random: Random, one: () => T): T[] {
  return Array.from({ length: 1 + random.below(random.chance(0.95) ? 4 : 200) }, one);
}

const block = (random: Random) => ({
  hostAddress: hostile64(random),
  offset: hostile64(random),
  length: hostile64(random),
  rkey: hostile32(random),
});

const place = (random: Random) => ({
  blockIndex: random.chance(0.7) ? random.below(3) : hostile32(random),
  offset: hostile64(random),
});

const command = (random: Random) => ({
  key: hostile64(random),
  blockIndex: random.chance(0.7) ? random.below(3) : hostile32(random),
  chunks: random.chance(0.7) ? BigInt(random.below(4)) : hostile64(random),
});

const commit = (random: Random) => ({
  streamBytes: hostile64(random),
  ramBytes: hostile64(random),
  zeroBytes: hostile64(random),
  rounds: hostile32(random),
  sentDigest: new Uint8Array(randomBytes(random, 32)),
  ...(random.chance(0.5) && { ramDigest: new Uint8Array(randomBytes(random, 32)) }),
});

const progress = (random: Random) => ({
  round: hostile32(random),
  pending: random.below(2 ** 31),
  content: random.below(2 ** 31),
  zero: 0,
  foundContent: random.below(2 ** 31) * 2 ** 20,
  foundZero: Number.MAX_SAFE_INTEGER,
});

function reason(random: Random): Uint8Array {
  if (random.chance(0.3)) return randomBytes(random, 1 + random.below(1600));
  const code = random.pick(['DISK_FULL', 'INTERNAL', 'TIMEOUT'] as const);
  return encodeReason(
    new MigrationError(code, 'ram', randomBytes(random, random.below(1500)).toString('utf8')),
  );
}

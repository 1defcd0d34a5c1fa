import type { ErrorCode } from '../../../lib/errors.ts';
import {
  acceptCapabilities,
  answerCapabilities,
  type DestinationOffer,
  requestCapabilities,
  type SourceOffer,
} from '../../../lib/protocol/capabilities.ts';
import { crc32c } from '../../../lib/protocol/crc32c.ts';
import { FLAG } from '../../../lib/protocol/extension.ts';
import {
  type Capabilities,
  decodeCapabilities,
  encodeCapabilities,
  isSoftwareRnic,
} from '../../../lib/protocol/private-data.ts';
import { acceptRail, railOf, requestRail } from '../../../lib/protocol/rail-request.ts';
import type { Random } from '../../campaign/random.ts';
import { Finding, same, tried } from '../judge.ts';
import { hostile32, hostile64, mutate, randomBytes } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['PROTOCOL_ERROR', 'VERSION_MISMATCH'];
/** A damaged tail may say that its sender wants TLS. */
/** REJECTED: whoever only asks what became of a migration is no source. */
const ANSWERS: readonly ErrorCode[] = [...CODES, 'TLS_REQUIRED', 'REJECTED'];
const TAIL = 8;
const CHECK = TAIL + 20;
const CHECK_END = TAIL + 24;

export const privateData: Target = {
  name: 'private-data',
  feeds:
    'both ends of the handshake with requests and replies, their tails damaged, with and without a right check',
  reaches: ['undamaged', 'taken', 'PROTOCOL_ERROR', 'VERSION_MISMATCH', 'agreed', 'granted', 'rail'],
  play(random, hit) {
    const valid = validData(random, hit);
    const damaged = random.chance(0.9);
    const data = damaged ? damage(random, valid) : valid;
    const decoded = tried(CODES, hit, () => decodeCapabilities(data));
    if (!damaged && !decoded) throw new Finding('undamaged private data is refused');
    hit(damaged ? 'damaged' : 'undamaged');
    if (decoded) {
      hit('taken');
      same(
        'what was read, written and read',
        decodeCapabilities(encodeCapabilities(decoded)),
        written(decoded),
      );
    }
    bothEnds(random, data, hit);
  },
};

function validData(random: Random, hit: Hit): Uint8Array {
  const kind = random.below(4);
  if (kind === 0) return requestCapabilities(sourceOffer(random));
  if (kind === 1)
    return answerCapabilities(requestCapabilities(sourceOffer(random)), destinationOffer(random)).reply;
  if (kind === 2) {
    hit('rail');
    return requestRail({ token: hostile64(random), index: random.below(65_536) });
  }
  return encodeCapabilities({
    version: random.chance(0.9) ? 1 : hostile32(random),
    flags: random.below(4),
    ...(random.chance(0.8) && {
      extension: {
        version: 1 + random.below(3),
        flags: random.below(0x20),
        bytes: hostile64(random),
        checked: random.chance(0.7),
      },
    }),
  });
}

function damage(random: Random, valid: Uint8Array): Buffer {
  const data = mutate(random, valid);
  if (data.length < CHECK_END || random.chance(0.4)) return data;
  // Whoever writes a wrong tail on purpose gets its check right.
  const length = data.readUInt16BE(TAIL + 6);
  data.fill(0, CHECK, CHECK_END);
  data.writeUInt32BE(crc32c(data.subarray(0, TAIL + length)), CHECK);
  return data;
}

/** A tail without a check has no fields after it, and is written without their flags. */
function written({ extension, ...v1 }: Capabilities): Capabilities {
  if (extension === undefined) return v1;
  const fields = FLAG.MIGRATION_ID | FLAG.CHANNELS | FLAG.RAIL;
  const flags = extension.checked ? extension.flags : (extension.flags & ~fields) >>> 0;
  return { ...v1, extension: { ...extension, flags } };
}

function bothEnds(random: Random, data: Uint8Array, hit: Hit): void {
  if (tried(ANSWERS, hit, () => answerCapabilities(data, destinationOffer(random)))) hit('agreed');
  if (tried(ANSWERS, hit, () => acceptCapabilities(data, sourceOffer(random)))) hit('granted');
  tried(CODES, hit, () => railOf(data));
  tried(CODES, hit, () => acceptRail(data, { token: 1n, index: 1 }));
  isSoftwareRnic(data);
}

function sourceOffer(random: Random): SourceOffer {
  return {
    ...both(random),
    ...(random.chance(0.5) && { ramBytes: hostile64(random) }),
    ...(random.chance(0.5) && { migrationId: uuid(random) }),
  };
}

function destinationOffer(random: Random): DestinationOffer {
  return {
    ...both(random),
    ...(random.chance(0.5) && { pinBudget: hostile64(random) }),
    ...(random.chance(0.5) && { pinAllLimit: hostile64(random) }),
  };
}

const both = (random: Random) => ({
  pinAll: random.chance(0.5),
  commit: random.chance(0.8),
  sparse: random.chance(0.5),
  alive: random.chance(0.5),
  progress: random.chance(0.5),
  channels: random.pick([1, 1, 2, 16]),
  softwareRnic: random.chance(0.5),
});

const uuid = (random: Random): string =>
  randomBytes(random, 16)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

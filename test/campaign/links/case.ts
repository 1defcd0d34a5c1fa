/** What happens in one case: which migration, and where its links are cut. */
import type { Random } from '../random.ts';

/** Live guests by what finds the pages that they write; `image`: a VM that stands still, from disk to disk. */
export const KINDS = ['exact', 'write-protect', 'hash', 'image'] as const;
export type Kind = (typeof KINDS)[number];

export interface Cut {
  /** Bytes, both ways together, from the cut before on. */
  readonly after: number;
  /** How both ends of the stream learn of it. */
  readonly how: 'reset' | 'end' | 'silence';
  /** All streams of the migration, or the one on which the byte was. */
  readonly all: boolean;
  /** How long nobody is let through afterwards, milliseconds. */
  readonly outageMs: number;
}

export interface LinkCase {
  readonly seed: number;
  readonly kind: Kind;
  readonly pinAll: boolean;
  readonly channels: number;
  readonly crc: boolean;
  readonly tls: boolean;
  readonly verify: boolean;
  readonly cuts: readonly Cut[];
}

/** RAM of each VM. */
export const RAM_BYTES = 8 << 20;

/** `random` is of `seed`. */
export function caseOf(seed: number, random: Random): LinkCase {
  const cuts = 1 + random.below(random.chance(0.2) ? 12 : 3);
  return {
    seed,
    kind: random.pick(KINDS),
    pinAll: random.chance(0.5),
    channels: random.pick([1, 1, 2, 4]),
    crc: random.chance(0.5),
    verify: random.chance(0.5),
    tls: random.chance(0.3),
    cuts: Array.from({ length: cuts }, () => cutOf(random, cuts)),
  };
}

/** Half of them anywhere in what is sent in all, half soon after the one before: within its own handshake, too. */
function cutOf(random: Random, cuts: number): Cut {
  const most = random.chance(0.5) ? (1.5 * RAM_BYTES) / cuts : 4096;
  return {
    after: 1 + random.below(most),
    how: random.pick(['reset', 'reset', 'end', 'silence']),
    all: random.chance(0.5),
    outageMs: random.chance(0.5) ? 0 : random.below(100),
  };
}

/** Where a byte is changed: drawn from every part of every way of every connection, by turns. */
import type { Random } from '../../campaign/random.ts';
import { type Between, byUnits, type Conversation, type Towards, WAYS } from '../../support/tcp-proxy.ts';
import { PARTS, type Part, partOf, repairCrc, type Unit, unitsOf } from '../../support/wire-units.ts';
import type { Strike } from './judge.ts';

export interface Place {
  readonly connection: number;
  readonly towards: Towards;
  readonly part: Part;
  /** The byte, of those of its part. */
  readonly at: number;
}

/** All places of one part of one way. */
interface Stratum extends Omit<Place, 'at'> {
  readonly size: number;
}

/** The parts of an honest migration. */
export function strataOf(conversations: readonly Conversation[]): Stratum[] {
  return conversations.flatMap((conversation, connection) =>
    WAYS.flatMap((towards) => {
      const { units } = unitsOf(conversation.bytes(towards));
      return PARTS.map((part) => {
        const size = units.reduce((sum, unit) => sum + (partOf(unit) === part ? unit.bytes.length : 0), 0);
        return { connection, towards, part, size };
      }).filter(({ size }) => size > 0);
    }),
  );
}

/** So many places, no two the same; small strata are used up, and what is left is shared by the others. */
export function* draw(strata: readonly Stratum[], random: Random): Generator<Place> {
  let decks = strata.map(({ size, ...place }) => ({ place, deck: shuffled(size, random) }));
  while (decks.length > 0) {
    for (const { place, deck } of decks) yield { ...place, at: deck.next() };
    decks = decks.filter(({ deck }) => !deck.done);
  }
}

/** The numbers below `size`, each once, in any order. */
interface Deck {
  readonly done: boolean;
  next(): number;
}

function shuffled(size: number, random: Random): Deck {
  const numbers = Uint32Array.from({ length: size }, (_, index) => index);
  let left = size;
  return {
    get done() {
      return left === 0;
    },
    next() {
      const at = random.below(left);
      const value = numbers[at] as number;
      left -= 1;
      numbers[at] = numbers[left] as number;
      return value;
    },
  };
}

/** Somebody who changes that byte, once. In the clear his CRC is right if `repairs`, and he is taken for the sender. */
export class ChangesByte {
  strike: Strike | undefined;
  readonly #place: Place;
  readonly #mask: number;
  readonly #repairs: boolean;
  #passed = 0;

  constructor(place: Place, mask: number, repairs: boolean) {
    this.#place = place;
    this.#mask = mask;
    this.#repairs = repairs;
  }

  readonly between: Between = (connection, towards) => {
    const { connection: wanted, towards: way } = this.#place;
    return connection === wanted && towards === way ? byUnits((unit) => this.#pass(unit)) : undefined;
  };

  #pass(unit: Unit): Buffer {
    const part = partOf(unit);
    if (this.strike || part !== this.#place.part) return unit.bytes;
    const at = this.#place.at - this.#passed;
    this.#passed += unit.bytes.length;
    if (at >= unit.bytes.length) return unit.bytes;
    const { connection, towards } = this.#place;
    this.strike = { connection, towards, part, offset: unit.start + at };
    unit.bytes.writeUInt8(unit.bytes.readUInt8(at) ^ this.#mask, at);
    const isPayload = at >= 2 && at < unit.bytes.length - 4;
    return unit.kind === 'fpdu' && isPayload && this.#repairs ? repairCrc(unit.bytes) : unit.bytes;
  }
}

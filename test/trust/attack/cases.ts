/** Cases of one changed byte each: drawn by a seed, played, judged. */
import { Random } from '../../campaign/random.ts';
import { attack, type Outcome } from './attack.ts';
import { judge, type Strike } from './judge.ts';
import { ChangesByte, draw, type Place, strataOf } from './places.ts';
import type { SecretVm } from './secret-vm.ts';
import { psk, type Way, way, x509 } from './ways.ts';

export interface Case {
  /** The name of its way. */
  readonly way: string;
  readonly place: Place;
  /** XORed with the byte; not 0. */
  readonly mask: number;
  readonly repairs: boolean;
}

export interface Played {
  readonly outcome: Outcome;
  /** undefined: this time the conversation was over before the place came. */
  readonly strike: Strike | undefined;
  readonly lies: readonly string[];
}

export const attackedWays = (): readonly Way[] => [
  way('x509 over one channel', x509(), 1),
  way('a shared key over two channels', psk(), 2),
];

/**
 * Cases without an end, until every byte of an honest migration has had its turn. The seed decides them, but for how a run cuts RAM into records.
 * @throws Error: an honest migration has failed
 */
export async function* drawCases(vm: SecretVm, ways: readonly Way[], seed: number): AsyncGenerator<Case> {
  const random = new Random(seed);
  const places = [];
  for (const way of ways) {
    const honest = await attack(vm, way, () => undefined);
    const lies = judge(honest, undefined);
    if (lies.length > 0) throw new Error(`with ${way.name} and nobody in between: ${lies.join('; ')}`);
    places.push({ way: way.name, drawn: draw(strataOf(honest.conversations), random) });
  }
  for (let left = places.length; left > 0; ) {
    left = 0;
    for (const { way, drawn } of places) {
      const { value: place } = drawn.next();
      if (!place) continue;
      left += 1;
      yield { way, place, mask: 1 + random.below(255), repairs: random.chance(0.75) };
    }
  }
}

export async function play(
  vm: SecretVm,
  ways: readonly Way[],
  { way: name, place, mask, repairs }: Case,
): Promise<Played> {
  const between = new ChangesByte(place, mask, repairs);
  const way = ways.find((each) => each.name === name);
  if (!way) throw new Error(`no way '${name}'`);
  const outcome = await attack(vm, way, between.between);
  const { strike } = between;
  return { outcome, strike, lies: judge(outcome, strike) };
}

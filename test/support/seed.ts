/** Randomized tests print what repeats them. */
import { randomNumbers } from '../../examples/qemu-live/random.ts';

/** As given in TEST_SEED, else any; printed. */
export function testSeed(what: string): number {
  const given = process.env.TEST_SEED;
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`TEST_SEED is not a number: ${given}`);
  console.log(`${what}: TEST_SEED=${seed} repeats it`);
  return seed;
}

/** Numbers from 0 up to 1 of {@link testSeed}. */
export const seededRandom = (what: string): (() => number) => randomNumbers(testSeed(what));

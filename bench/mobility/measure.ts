/** Programs that move, in processes of their own, and what their moves take. */
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { begin, type Moved, move, newPlace, RESUME } from '../../examples/moving-program/journey.ts';
import type { Traffic } from '../../examples/moving-program/layout.ts';
import type { Options } from '../../examples/moving-program/options.ts';
import type { PlaceSaid } from '../../examples/moving-program/place.ts';
import type { MoveWay } from '../../examples/moving-program/vm.ts';

export const MODES = {
  'write out': { verb: 'write', from: 'program' },
  'write in': { verb: 'write', from: 'partner' },
  send: { verb: 'send', from: 'program' },
  receive: { verb: 'send', from: 'partner' },
} as const;
export type Mode = keyof typeof MODES;

const TOLD_PARTNER = fileURLToPath(new URL('./told-partner.js', import.meta.url));
/** Longer than any run: it is ended when it has been measured. */
const SECONDS = 3600;
/** Between moves: the traffic has to be under way. */
const EVERY_MS = 400;

const optionsOf = (traffic: Traffic, way: MoveWay): Options => ({
  traffic,
  moves: 0,
  everyMs: EVERY_MS,
  way,
  tracker: 'hash',
  downtimeLimitMs: 60_000, // at the first pass's end: how RAM converges is not what is measured
  drainMs: 10_000,
  longestPauseMs: 60_000,
  ontoPartner: false,
  svg: undefined,
  json: false,
});

/** Several moves of one program. */
export async function moves(
  traffic: Omit<Traffic, 'iterations' | 'seconds'>,
  way: MoveWay,
  count: number,
): Promise<Moved[]> {
  const options = optionsOf({ ...traffic, iterations: 0, seconds: SECONDS }, way);
  const isScratch = way === 'scratch';
  const { partner, place } = await begin(options, {
    ...(isScratch ? { partner: TOLD_PARTNER } : { resume: RESUME }),
  });
  let here = place;
  const all: Moved[] = [];
  try {
    for (let index = 0; index < count; index += 1) {
      await pause(EVERY_MS);
      const there = newPlace();
      const moved = await move(here, there, index, options);
      if (moved === undefined) throw new Error('the program came to its end');
      all.push(moved);
      await here.end();
      here = there;
    }
    if (partner.hasEnded) throw new Error('the partner has ended');
    return all;
  } finally {
    await Promise.all([here.end(), partner.end()]);
  }
}

/** Messages a second of a program that does not move. */
export async function rate(
  traffic: Omit<Traffic, 'iterations' | 'seconds'>,
  isResumable: boolean,
  seconds: number,
): Promise<number> {
  const options = optionsOf({ ...traffic, iterations: 0, seconds }, 'ahead');
  const { partner, place } = await begin(options, isResumable ? { resume: RESUME } : {});
  try {
    const over = (await place.expect('over')) as Extract<PlaceSaid, { said: 'over' }>;
    const { done, received } = over.progress;
    return (done + received) / seconds;
  } finally {
    await Promise.all([place.end(), partner.end()]);
  }
}

/** A program's way from place to place. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Options } from './options.ts';
import type { PartnerSaid, PartnerStart } from './partner.ts';
import type { PlaceCommand, PlaceSaid } from './place.ts';
import { Process } from './processes.ts';
import type { Progress } from './program.ts';

const PARTNER = '127.0.0.1';
export const RESUME = { windowMs: 10_000, retryMs: 2 };
/** Of a seconds' run: everything has been said by then. */
const AFTER_MS = 60_000;

export type PlaceProcess = Process<PlaceSaid, PlaceCommand>;
export type PartnerProcess = Process<PartnerSaid, PartnerStart>;

/** One move, milliseconds. */
export interface Moved {
  /** From the stop of the program to its first step at the new place. */
  readonly programMs: number;
  /** From there on until every peer was there. */
  readonly peersMs: number;
  readonly drainMs: number;
  readonly downtimeMs: number;
  readonly rounds: number;
  /** Of the machine's clock. */
  readonly stopped: number;
  readonly restored: number;
}

export interface Journey {
  readonly moves: readonly Moved[];
  readonly samples: readonly [number, number][];
  readonly partner: Progress;
  readonly program: Progress;
}

export const newPlace = (): PlaceProcess => new Process('./place.js');

/** The address of the n-th place: of this machine, all of them. */
const addressOf = (index: number, { ontoPartner }: Options): string =>
  ontoPartner ? PARTNER : `127.0.0.${2 + (index % 200)}`;

/** `as.resume`: none, its connections cannot move. */
export async function begin(
  options: Options,
  as: {
    /** Of its process; default the one that knows nothing. */
    readonly partner?: string;
    readonly resume?: typeof RESUME;
    /** Somebody in between, who listens at the port that this gives. */
    readonly through?: (partnerPort: number) => Promise<number>;
  },
): Promise<{ readonly partner: PartnerProcess; readonly place: PlaceProcess }> {
  const partner: PartnerProcess = new Process(as.partner ?? './partner.js');
  const place = newPlace();
  partner.tell({ traffic: options.traffic, host: PARTNER, resume: as.resume });
  const listening = await partner.expect('listening');
  const port = as.through ? await as.through(listening.port) : listening.port;
  place.tell({ do: 'begin', traffic: options.traffic, partner: { host: PARTNER, port }, resume: as.resume });
  await place.expect('began');
  return { partner, place };
}

/** Undefined: the program came to its end before. */
export async function move(
  here: PlaceProcess,
  there: PlaceProcess,
  index: number,
  options: Options,
): Promise<Moved | undefined> {
  there.tell({ do: 'await', host: addressOf(index, options) });
  const { uri, to } = await there.expect('awaits');
  here.tell({ do: 'move', uri, to, how: options });
  const said = await here.next();
  if (said?.said === 'over') return undefined;
  if (said?.said !== 'moved') throw new Error(`a move failed: ${JSON.stringify(said)}`);
  const { times, downtimeMs, rounds } = said;
  const { at, restored } = await there.expect('arrived');
  return {
    programMs: at - times.stopped,
    peersMs: restored - at,
    drainMs: times.frozen - times.stopped,
    downtimeMs,
    rounds,
    stopped: times.stopped,
    restored,
  };
}

/** @throws Error anything went otherwise than it should */
export async function travel(
  options: Options,
  tell: (moved: Moved, index: number) => void,
): Promise<Journey> {
  const { partner, place } = await begin(options, { resume: RESUME });
  let here = place;
  const moves: Moved[] = [];
  try {
    for (let index = 0; index < options.moves; index += 1) {
      await pause(options.everyMs);
      const there = newPlace();
      try {
        const moved = await move(here, there, index, options);
        if (moved === undefined) {
          await there.end();
          throw new Error(`the program came to its end before its move ${index + 1}: give it more to do`);
        }
        moves.push(moved);
        tell(moved, index);
      } catch (error) {
        await there.end();
        throw error;
      }
      await here.end();
      here = there;
    }
    const late = AbortSignal.timeout(options.traffic.seconds * 1000 + AFTER_MS);
    const [over, atPartner] = await Promise.race([
      Promise.all([here.expect('over'), partner.expect('over')]),
      new Promise<never>((_, reject) => {
        late.addEventListener('abort', () => reject(new Error('the programs do not come to their end')));
      }),
    ]);
    return { moves, samples: atPartner.samples, partner: atPartner.progress, program: over.progress };
  } finally {
    await Promise.all([here.end(), partner.end()]);
  }
}

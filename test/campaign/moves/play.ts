/** Plays one case, with processes, and judges it. */
import { setTimeout as pause } from 'node:timers/promises';
import {
  begin,
  newPlace,
  type PartnerProcess,
  type PlaceProcess,
} from '../../../examples/moving-program/journey.ts';
import type { Options } from '../../../examples/moving-program/options.ts';
import type { PartnerSaid } from '../../../examples/moving-program/partner.ts';
import type { PlaceSaid } from '../../../examples/moving-program/place.ts';
import { CuttingProxy } from '../links/cutting-proxy.ts';
import type { Case } from './case.ts';

const RESUME = { windowMs: 1500, retryMs: 2 };
const LONGEST_PAUSE_MS = 1500;
/** For everything to be said that has to be said. */
const DEADLINE_MS = 45_000;

/** All streams; for so long nobody is let through. */
const CUT = { after: 0, how: 'reset', all: true, outageMs: 30 } as const;

export type Outcome = 'moved' | 'stayed' | 'lost with its place' | 'lost with its partner';

interface Ends {
  readonly partner: PartnerProcess;
  readonly old: PlaceProcess;
  readonly next: PlaceProcess;
}

/** All that a process says until it ends, or says what `isLast` takes for its last word. */
async function hear<S extends { said: string }>(
  process: { next(): Promise<S | undefined> },
  isLast: (said: S) => boolean,
): Promise<S[]> {
  const all: S[] = [];
  for (let said = await process.next(); said !== undefined; said = await process.next()) {
    all.push(said);
    if (isLast(said)) break;
  }
  return all;
}

function strike({ fault, stillMs }: Case, { partner, old, next }: Ends, proxy?: CuttingProxy): void {
  const whom = { old, new: next, partner }[fault.split('-')[1] ?? ''];
  if (fault.startsWith('kill')) whom?.signal('SIGKILL');
  if (fault.startsWith('stop')) {
    whom?.signal('SIGSTOP');
    setTimeout(() => whom?.signal('SIGCONT'), stillMs);
  }
  proxy?.begin(); // the next byte
  if (fault === 'cancel') old.tell({ do: 'cancel' });
}

/** @throws Error a rule was broken */
export async function play(one: Case): Promise<Outcome> {
  const options: Options = {
    ...one,
    moves: 1,
    everyMs: 0,
    downtimeLimitMs: 2000,
    longestPauseMs: LONGEST_PAUSE_MS,
    ontoPartner: one.seed % 2 === 0,
    svg: undefined,
    json: false,
  };
  let proxy: CuttingProxy | undefined;
  const { partner, place } = await begin(options, {
    resume: RESUME,
    ...(one.fault === 'cut' && {
      through: async (port: number) => {
        proxy = await CuttingProxy.open(port, [CUT]);
        return Number(proxy.uri.split(':').at(-1));
      },
    }),
  });
  const ends: Ends = { partner, old: place, next: newPlace() };
  try {
    ends.next.tell({ do: 'await', host: options.ontoPartner ? '127.0.0.1' : '127.0.0.2' });
    const { uri, to } = await ends.next.expect('awaits');
    ends.old.tell({ do: 'move', uri, to, how: options });
    const struck = pause(one.atMs).then(() => strike(one, ends, proxy));
    const outcome = await Promise.race([judge(one, ends), late()]);
    await struck;
    return outcome;
  } finally {
    for (const each of Object.values(ends)) each.signal('SIGCONT');
    await Promise.all([...Object.values(ends).map((each) => each.end()), proxy?.[Symbol.asyncDispose]()]);
  }
}

async function late(): Promise<never> {
  await pause(DEADLINE_MS, undefined, { ref: false });
  throw new Error('not everything was said in time');
}

const isPlaceDone = ({ said }: PlaceSaid): boolean => said === 'over' || said === 'ended' || said === 'lost';

async function judge(one: Case, ends: Ends): Promise<Outcome> {
  const fromPartner = hear<PartnerSaid>(ends.partner, ({ said }) => said === 'over' || said === 'ended');
  const places = [ends.old, ends.next].map((each) => {
    const heard: PlaceSaid[] = [];
    void (async () => {
      for (let said = await each.next(); said !== undefined; said = await each.next()) heard.push(said);
    })().catch(() => {});
    return heard;
  }) as [PlaceSaid[], PlaceSaid[]];
  if (one.fault === 'kill-partner') return await withoutPartner(fromPartner, places);
  const last = (await fromPartner).at(-1);
  if (last?.said === 'ended') return lostWithPlace(one, last, places);
  if (last?.said !== 'over') throw new Error('the partner has ended without a word');
  return await whole(last, places);
}

/** Every message came, once and in order, and exactly one place says that its program is over. */
async function whole(
  { progress }: Extract<PartnerSaid, { said: 'over' }>,
  places: readonly [PlaceSaid[], PlaceSaid[]],
): Promise<Outcome> {
  const over = (): (Extract<PlaceSaid, { said: 'over' }> & { at: number })[] =>
    places.flatMap((said, at) => said.flatMap((each) => (each.said === 'over' ? [{ ...each, at }] : [])));
  while (over().length === 0) await pause(5);
  await pause(50); // for another one, which must not come
  const [program, ...more] = over();
  if (program === undefined || more.length > 0) throw new Error('both places have the program');
  const { faults, done, received } = program.progress;
  if (progress.faults + faults > 0) throw new Error(`${progress.faults} and ${faults} messages were wrong`);
  const isSend = progress.received + received > 0;
  if (isSend && (progress.received !== done || progress.done !== received))
    throw new Error(`sent ${done} and ${progress.done}, received ${progress.received} and ${received}`);
  return program.at === 0 ? 'stayed' : 'moved';
}

/** Only with a place that was killed. */
function lostWithPlace(
  { fault }: Case,
  { code, progress }: Extract<PartnerSaid, { said: 'ended' }>,
  places: readonly [PlaceSaid[], PlaceSaid[]],
): Outcome {
  if (fault !== 'kill-old' && fault !== 'kill-new')
    throw new Error(`the partner lost its connection: ${code}`);
  if (code !== 'CONNECTION_LOST') throw new Error(`the partner's connection ended with ${code}`);
  if (progress.faults > 0) throw new Error(`${progress.faults} messages were wrong`);
  const alive = places[fault === 'kill-old' ? 1 : 0];
  const isThere = fault === 'kill-old' ? 'arrived' : 'stays';
  if (alive.some(({ said }) => said === isThere))
    throw new Error('the place that lives has the program, and the partner has lost it');
  return 'lost with its place';
}

async function withoutPartner(
  fromPartner: Promise<PartnerSaid[]>,
  places: readonly [PlaceSaid[], PlaceSaid[]],
): Promise<Outcome> {
  const last = (await fromPartner).at(-1);
  if (last?.said === 'over') return await whole(last, places); // it came too late
  const isTold = (): boolean =>
    places.some((said) => said.some((each) => isPlaceDone(each) || each.said === 'failed'));
  while (!isTold()) await pause(5);
  return 'lost with its partner';
}

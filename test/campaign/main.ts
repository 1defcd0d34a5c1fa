/**
 * `npm run campaign -- --minutes N | --cases N [--seed S] [--jobs N]`, or `--case-seed S` to repeat one case: breaks migrations at random and
 * checks after each one that what both ends reported is what is there. Prints each lie with the seed of its case, and then exits
 * with 1.
 */
import { parseArgs } from 'node:util';
import { type Case, caseOf } from './case.ts';
import { judge, type There, type Verdict } from './judge.ts';
import { type Played, playOurs, type Volume } from './ours.ts';
import { Random } from './random.ts';
import { Scene } from './scene.ts';
import { isScripted, playDestination, playSource } from './scripted.ts';
import { Tally } from './tally.ts';

/** Cases at a time: they spend most of their time waiting for a deadline. */
const JOBS = 4;

interface Outcome extends Played {
  readonly there: There;
}

class Campaign {
  readonly #scene: Scene;
  readonly #volumes = new Map<string, Volume>();
  readonly #tally = new Tally();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  /** Plays one case. False: an end lied. */
  async run(it: Case): Promise<boolean> {
    const outcome = await this.#play(it);
    const verdict = judge(it, outcome.source, outcome.destination, outcome.there);
    this.#count(it, outcome, verdict);
    if (verdict.lies.length === 0) return true;
    const { source, destination, there, struck } = outcome;
    const details = { case: it, source, destination, there, struck };
    process.stdout.write(
      `LIE in case ${it.seed}: ${verdict.lies.join('; ')}\n${JSON.stringify(details, null, 1)}\n`,
    );
    return false;
  }

  async #play(it: Case): Promise<Outcome> {
    switch (it.pair) {
      case 'ours': {
        const played = await playOurs(this.#scene, it, await this.#volume(it));
        const there = await this.#scene.look(played.folder, (image) => this.#scene.isTheSame(image));
        return { ...played, there };
      }
      case 'version 1 source': {
        const played = await playSource(this.#scene, it);
        return { ...played, there: await this.#scene.look(played.folder, isScripted) };
      }
      case 'version 1 destination':
        return playDestination(this.#scene, it);
    }
  }

  /** The bytes that go each way are measured once for each kind of migration. */
  async #volume(it: Case): Promise<Volume> {
    const key = [it.commit, it.crc, it.verify, it.pinAll].join();
    const known = this.#volumes.get(key);
    if (known) return known;
    const honest = { ...it, fault: { kind: 'none' }, bandwidth: 0 } as const;
    const { passed } = await playOurs(this.#scene, honest, { source: 0, destination: 0 });
    this.#volumes.set(key, passed);
    return passed;
  }

  #count(it: Case, { struck, source, destination }: Outcome, { counted }: Verdict): void {
    const kind = it.pair === 'ours' ? `both ours, commit ${it.commit ? 'on' : 'off'}` : it.pair;
    this.#tally.add(`cases: ${kind}`);
    if (struck.length === 0)
      this.#tally.add(it.fault.kind === 'none' ? 'fault: none' : 'fault: came too late');
    for (const what of struck) this.#tally.add(`fault: ${what}`);
    for (const what of counted) this.#tally.add(`counted: ${what}`);
    for (const [who, said] of Object.entries({ source, destination })) {
      if (said) this.#tally.add(`said: ${who} ${said.code ?? said.outcome ?? said.signal ?? said.exit}`);
    }
  }

  get lines(): string[] {
    return this.#tally.lines();
  }
}

function number(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`expected a number above 0 but received ${text}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      cases: { type: 'string' },
      seed: { type: 'string' },
      jobs: { type: 'string' },
      'case-seed': { type: 'string' },
    },
  });
  await using scene = await Scene.create();
  const campaign = new Campaign(scene);
  const one = number(values['case-seed']);
  if (one !== undefined) return (await campaign.run(caseOf(one))) ? 0 : 1;
  const seed = number(values.seed) ?? Date.now() % 2 ** 31;
  const until = performance.now() + 60_000 * (number(values.minutes) ?? Number.POSITIVE_INFINITY);
  const most = number(values.cases) ?? (values.minutes === undefined ? 20 : Number.POSITIVE_INFINITY);
  process.stdout.write(`seed ${seed}\n`);
  const seeds = new Random(seed);
  let lies = 0;
  let cases = 0;
  const work = async (): Promise<void> => {
    while (cases < most && performance.now() < until) {
      cases += 1;
      if (!(await campaign.run(caseOf(seeds.below(2 ** 31))))) lies += 1;
    }
  };
  await Promise.all(Array.from({ length: number(values.jobs) ?? JOBS }, work));
  process.stdout.write(`${campaign.lines.join('\n')}\n${cases} cases, seed ${seed}, ${lies} with a lie\n`);
  return lies === 0 ? 0 : 1;
}

process.exit(await main());

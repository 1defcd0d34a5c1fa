/** Reports of migrations, for people and as JSON. */
import type { DowntimePart, LiveStatistics, MigrationResult, RoundReport } from 'rdma-migrate';
import { bytes, type Narrator, rate } from '../demo/narrator.ts';
import type { Moved } from './migrate.ts';
import type { Observation } from './observer.ts';
import type { Tally, Turn } from './soak.ts';

const PARTS: readonly DowntimePart[] = ['pause', 'collect', 'ram', 'device-state', 'commit'];
const ms = (value: number | undefined): string => (value === undefined ? '-' : `${value.toFixed(1)} ms`);

const outside = ({ downtimeMs, uncertaintyMs }: Observation): string =>
  downtimeMs === undefined ? '-' : `${ms(downtimeMs)} ± ${(uncertaintyMs ?? 0).toFixed(1)}`;

/** Rounds, downtime and its parts of one migration. */
export function tellMoved(narrator: Narrator, { result, seen, pid }: Moved): void {
  if (result === undefined || result.live === undefined) {
    narrator.say(`process ${pid} holds the VM, although the source could not be told: it goes on there`);
    return;
  }
  for (const round of result.live.rounds) narrator.say(roundLine(round));
  narrator.say(downtimeLine(result.live));
  narrator.say(`from outside, by the guest's own count: it stood still for ${outside(seen)}`);
  narrator.say(totalLine(result));
}

function roundLine(round: RoundReport): string {
  const { verdict, 'collect-time': collect, 'expected-downtime': expected } = round;
  const before =
    verdict === undefined
      ? ''
      : `; before it: collected in ${ms(collect)}, expected downtime ${ms(expected)}, ${verdict}`;
  const throttled = round['cpu-throttle-percentage'];
  return (
    `round ${String(round.round).padStart(2)}: ${round['dirty-pages']} pages, ${bytes(round['normal-bytes'])} sent in ${ms(round.time)} ` +
    `(${rate(round['normal-bytes'], round.time)}), ${round.duplicate} zero${before}${throttled > 0 ? `, throttled by ${throttled} %` : ''}`
  );
}

function downtimeLine(live: LiveStatistics): string {
  const parts = live['downtime-parts'];
  const list = parts === undefined ? '' : PARTS.map((part) => `${part} ${parts[part].toFixed(1)}`).join(', ');
  return `downtime ${ms(live.downtime)} (expected ${ms(live['expected-downtime'])}): ${list}`;
}

function totalLine(result: MigrationResult): string {
  return (
    `total time ${(result['total-time'] / 1000).toFixed(2)} s, ${bytes(result.ram['normal-bytes'])} of pages, ` +
    `${bytes(result['device-state-bytes'])} of device state; provider ${result.provider}, outcome ${result.outcome}`
  );
}

/** One line for one migration of many. */
export function turnLine({ number, ending, disturbance }: Turn): string {
  const what =
    disturbance === undefined
      ? ''
      : ` [${disturbance.kind} ${disturbance.afterMs} ms after ${disturbance.phase}]`;
  const head = `${String(number).padStart(4)}.${what}`;
  if (!ending.moved)
    return `${head} the guest stayed and runs on: ${ending.code} in phase ${ending.phase}${settled(ending.settledBy)}; verified`;
  const { result, seen } = ending;
  if (result === undefined) return `${head} moved${settled(ending.settledBy)}; verified`;
  const { live } = result;
  return (
    `${head} moved: ${live?.rounds.length ?? 0} rounds, ${bytes(result.ram['normal-bytes'])}, ${result['total-time']} ms; ` +
    `downtime ${ms(live?.downtime)}, from outside ${outside(seen)}; verified`
  );
}

/** Who found out when the source's command could not know. */
const settled = (by: string | undefined): string =>
  by === undefined ? '' : `, as the destination said when the ${by} asked`;

export function turnJson({ number, ending, disturbance }: Turn): string {
  if (!ending.moved) {
    const { code, phase, message } = ending;
    return JSON.stringify({ number, disturbance, moved: false, code, phase, message, reason: ending.reason });
  }
  return JSON.stringify({ number, disturbance, moved: true, seen: ending.seen, result: ending.result });
}

/** The figures of a whole run. */
export class Summary {
  readonly #rounds: number[] = [];
  readonly #reported: number[] = [];
  readonly #seen: number[] = [];
  readonly #differences: number[] = [];
  readonly #codes = new Map<string, number>();

  add({ ending }: Turn): void {
    if (!ending.moved) {
      this.#codes.set(ending.code, (this.#codes.get(ending.code) ?? 0) + 1);
      return;
    }
    const downtime = ending.result?.live?.downtime;
    const seen = ending.seen.downtimeMs;
    if (downtime === undefined || seen === undefined) return;
    this.#rounds.push(ending.result?.live?.rounds.length ?? 0);
    this.#reported.push(downtime);
    this.#seen.push(seen);
    this.#differences.push(Math.abs(seen - downtime));
  }

  lines(tally: Tally): string[] {
    const failed = [...this.#codes].map(([code, count]) => `${count} ${code}`).join(', ');
    return [
      `disturbances in time: ${tally.told.cancel} cancel, ${tally.told.kill} kill`,
      `${tally.moved} migrations moved the guest, ${tally.stayed} left it where it was` +
        `${failed === '' ? '' : ` (${failed})`}; all verified; in ${tally.unknown} the destination had to be asked; ${tally.lines} lines on the serial ports are one count`,
      `rounds ${spread(this.#rounds, 0)}`,
      `downtime reported, ms: ${spread(this.#reported)}; from outside: ${spread(this.#seen)}; difference: ${spread(this.#differences)}`,
    ];
  }
}

/** Smallest, median, largest. */
function spread(values: readonly number[], digits = 1): string {
  if (values.length === 0) return '-';
  const sorted = [...values].sort((a, b) => a - b);
  const show = (at: number): string =>
    (sorted[Math.floor(at * (sorted.length - 1))] as number).toFixed(digits);
  return `${show(0)} / ${show(0.5)} / ${show(1)} (smallest / median / largest)`;
}

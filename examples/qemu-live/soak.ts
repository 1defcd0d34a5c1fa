/** Migrations in a row: the guest moves from one QEMU into the next, and is checked after each, including those that were made to fail. */
import { Bench } from './bench.ts';
import { checkRunningGuest, requireOneCount, requireSameRest, waitForGuest } from './check.ts';
import { DiskCheck } from './disk.ts';
import { type Disturbance, type Moved, type MoveOptions, move, type Stayed } from './migrate.ts';
import type { LiveDemoOptions } from './options.ts';
import { randomNumbers } from './random.ts';
import type { Vm } from './vm.ts';

/** The assumed length of the first migration, which is not known when a moment in it is chosen. */
const FIRST_GUESS_MS = 400;
const DISTURBED_SHARE = 0.5;
const SWITCHOVER_MS = 30;
/** With chaos: after the last migration, for a disturbance of each kind that is in time. Most are. */
const MAX_EXTRA_TURNS = 12;

/** One migration of a run. */
export interface Turn {
  readonly number: number;
  readonly disturbance?: Disturbance;
  readonly ending: Moved | Stayed;
}

/** The results of all of them. */
export interface Tally {
  readonly moved: number;
  readonly stayed: number;
  /** Endings that the source could not know: settled by the command, or by an operator. */
  readonly unknown: number;
  /** Disturbances that were in time to end a migration, by kind. */
  readonly told: Readonly<Record<Disturbance['kind'], number>>;
  readonly lines: number;
}

export interface SoakHooks {
  readonly onStart?: (vm: Vm) => void;
  /** The address of a migration's page. */
  readonly onPage?: (url: string) => void;
  readonly onTurn: (turn: Turn) => void;
}

/** @throws at the first thing that is wrong */
export async function soak(
  options: LiveDemoOptions,
  place: { readonly folder: string; readonly signal: AbortSignal },
  hooks: SoakHooks,
): Promise<Tally> {
  await using bench = await Bench.open({ ...options, ...place });
  const first = await bench.boot();
  await waitForGuest(first);
  hooks.onStart?.(first);
  return await new Soak(bench, options, hooks).run(first);
}

class Soak {
  readonly #bench: Bench;
  readonly #options: LiveDemoOptions;
  readonly #hooks: SoakHooks;
  readonly #random: () => number;
  readonly #disk: DiskCheck | undefined;
  #expectedMs = FIRST_GUESS_MS;
  #tally = { moved: 0, stayed: 0, unknown: 0, told: { cancel: 0, kill: 0 } };

  constructor(bench: Bench, options: LiveDemoOptions, hooks: SoakHooks) {
    this.#bench = bench;
    this.#options = options;
    this.#hooks = hooks;
    this.#random = randomNumbers(options.seed);
    this.#disk = options.disk ? new DiskCheck(bench.at('disk.qcow2')) : undefined;
  }

  async run(first: Vm): Promise<Tally> {
    let at = first;
    for (let number = 1; number <= this.#options.repeat || this.#untold !== undefined; number++) {
      if (number > this.#options.repeat + MAX_EXTRA_TURNS)
        throw new Error(`no ${this.#untold} was in time in ${number - 1} migrations`);
      at = await this.#turn(number, at);
    }
    const lines = requireOneCount(await this.#bench.serials());
    return { ...this.#tally, lines };
  }

  /** With chaos: what has ended no migration yet. */
  get #untold(): Disturbance['kind'] | undefined {
    if (!this.#options.chaos) return undefined;
    return (['cancel', 'kill'] as const).find((kind) => this.#tally.told[kind] === 0);
  }

  /** Returns the VM in which the guest now runs. */
  async #turn(number: number, from: Vm): Promise<Vm> {
    await this.#disk?.write(from, number);
    const to = await this.#bench.receive(this.#options.receiveArgs);
    const disturbance = this.#disturbance(number > this.#options.repeat ? this.#untold : undefined);
    const ending = await move(this.#bench, from, to, this.#moveOptions(disturbance));
    const [runs, other] = ending.moved ? [to.vm, from] : [from, to.vm];
    await this.#check(from, to.vm, ending);
    this.#count(ending, disturbance);
    this.#hooks.onTurn({ number, ending, ...(disturbance === undefined ? {} : { disturbance }) });
    await this.#bench.end(other);
    if (!ending.moved && disturbance === undefined) throw new Error(`${ending.message} (${ending.code})`);
    return runs;
  }

  async #check(from: Vm, to: Vm, { moved }: Moved | Stayed): Promise<void> {
    const runs = moved ? to : from;
    if (moved) await requireSameRest(from, to, this.#options.ramBytes);
    await checkRunningGuest(runs);
    requireOneCount(await this.#bench.serials());
    await this.#disk?.check(runs);
  }

  #count(ending: Moved | Stayed, disturbance: Disturbance | undefined): void {
    if (disturbance && (!ending.moved || ending.settledBy)) this.#tally.told[disturbance.kind] += 1;
    this.#tally[ending.moved ? 'moved' : 'stayed'] += 1;
    if (ending.settledBy) this.#tally.unknown += 1;
    if (ending.moved && ending.result) this.#expectedMs = ending.result['total-time'];
  }

  /** At any moment of the whole, or in the short time of the switch-over, where both ends have to agree. */
  #disturbance(wanted: Disturbance['kind'] | undefined): Disturbance | undefined {
    if (!this.#options.chaos) return undefined;
    const [whether, which, where, when] = [this.#random(), this.#random(), this.#random(), this.#random()];
    if (wanted) return { kind: wanted, phase: 'ram', afterMs: Math.round((when * this.#expectedMs) / 2) };
    if (whether >= DISTURBED_SHARE) return undefined;
    const kind = which < 0.5 ? 'cancel' : 'kill';
    if (where < 0.5) return { kind, phase: 'connect', afterMs: Math.round(when * 1.1 * this.#expectedMs) };
    return {
      kind,
      phase: where < 0.75 ? 'device-state' : 'commit',
      afterMs: Math.round(when * SWITCHOVER_MS),
    };
  }

  #moveOptions(disturbance: Disturbance | undefined): MoveOptions {
    const { onPage } = this.#hooks;
    return {
      args: this.#options.moveArgs,
      ...(disturbance && { disturbance }),
      ...(onPage && { onPage }),
    };
  }
}

import { type MigrationError, type Phase, toMigrationError } from '../errors.ts';
import type { Agreed } from '../protocol/capabilities.ts';
import type { Connection } from '../transport/connection.ts';
import type {
  BytesEvent,
  LinkEvent,
  MigrationEvent,
  NoticeCode,
  NoticeDetails,
  PinEvent,
  Said,
  ZeroEvent,
} from './events.ts';
import { notice } from './events.ts';
import type { MigrationProgress } from './progress.ts';
import { initialState, type MigrationState, type Reducible, reduce } from './reducer.ts';
import type { MigrationFacts, MigrationResult } from './result.ts';
import { progressOf, resultOf } from './views.ts';

/** What a session counts while it works; read now and then, never per page. */
export interface Gauge {
  read(): readonly (BytesEvent | ZeroEvent | PinEvent)[];
}

/** How often counters are read while RAM moves, milliseconds. */
const SAMPLE_MS = 250;

/** The peer is there. `since`: when it came, as {@link Journal.at} counts. */
export function connected(
  { info }: Connection,
  agreed: Agreed,
  { since, migrationId }: { readonly since: number; readonly migrationId: string },
): LinkEvent {
  return {
    type: 'link',
    state: 'connected',
    since,
    migrationId,
    provider: info.provider,
    peer: info.peerAddress,
    'peer-extended': agreed.extended,
    'pin-all': agreed.pinAll,
    agreed: {
      version: agreed.version,
      commit: agreed.commit,
      resume: info.resumable,
      sparse: agreed.sparse,
      crc: info.crc,
      channels: agreed.channels,
      ...(agreed.pinBudget !== undefined && { 'pin-budget': Number(agreed.pinBudget) }),
    },
  };
}

/** How a migration ended. */
export type Ending =
  | { readonly facts: MigrationFacts }
  | { readonly error: MigrationError; readonly cancelled: boolean };

/** What was thrown is how it ended. `phase`: where, if the error does not say. */
export function failed(thrown: unknown, phase: Phase): Extract<Ending, { error: unknown }> {
  const error = toMigrationError(thrown, phase);
  return { error, cancelled: error.code === 'CANCELLED' };
}

/**
 * Where a session writes down what happens: it puts the time to each event, reads the counters while RAM moves, and hands every event to
 * the reducer and then to `publish`. Nothing is said after the end.
 */
export class Journal {
  readonly #publish: (event: MigrationEvent) => void;
  #state: MigrationState;
  #origin: number | undefined;
  #gauge: Gauge | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `phase`: what a failure before the first event is labelled with. */
  constructor(phase: Phase, publish: (event: MigrationEvent) => void = () => {}) {
    this.#state = initialState(phase);
    this.#publish = publish;
  }

  get phase(): Phase {
    return this.#state.phase;
  }

  get hasEnded(): boolean {
    return this.#state.ended !== undefined;
  }

  /** The pass that runs, and how much it had to move. */
  get pass(): { readonly round: number; readonly pending: number | undefined } | undefined {
    const { round } = this.#state;
    return round?.open ? { round: round.round, pending: round.pending } : undefined;
  }

  /** Starts the clock: times count from here on. */
  begin(): void {
    this.#origin ??= performance.now();
  }

  /** Milliseconds since then; 0 before. `moment`: of `performance.now()`, instead of now. */
  at(moment: number = performance.now()): number {
    return this.#origin === undefined ? 0 : Math.max(0, moment - this.#origin);
  }

  /** From here on the counters are read from this. */
  watch(gauge: Gauge): void {
    this.#gauge = gauge;
  }

  tell(said: Exclude<Said, { type: 'end' }>): void {
    // Between the end of a round and the next one nothing moves.
    if (said.type === 'phase' || (said.type === 'round' && said.state === 'ends')) this.sample();
    this.#record({ ...said, at: this.at() });
    if (said.type === 'phase') this.#sampleIn(said.phase);
  }

  enter(phase: Phase): void {
    this.tell({ type: 'phase', phase });
  }

  notice(code: NoticeCode, message: string, details: NoticeDetails = {}): void {
    this.tell(notice(code, message, details));
  }

  /** Reads the counters, and tells what they say. */
  sample(): void {
    for (const said of this.#gauge?.read() ?? []) this.#record({ ...said, at: this.at() });
  }

  /** Where the migration stands by the counters of this moment, whether they have been told or not. */
  get progress(): MigrationProgress {
    const at = this.at();
    const said = this.hasEnded ? [] : (this.#gauge?.read() ?? []);
    const state = said.reduce<MigrationState>((before, body) => reduce(before, { ...body, at }), this.#state);
    return progressOf(state, at);
  }

  /** Once; the last word. The result, of a migration that was completed. */
  end(ending: Ending): MigrationResult | undefined {
    if (this.hasEnded) return undefined;
    this.sample();
    this.#stopSampling();
    const at = this.at();
    if ('facts' in ending) {
      this.#state = reduce(this.#state, { type: 'end', at, status: 'completed' });
      const result = resultOf(this.#state, ending.facts);
      this.#publish({ type: 'end', at, status: 'completed', result });
      return result;
    }
    const status = ending.cancelled ? 'cancelled' : 'failed';
    this.#state = reduce(this.#state, { type: 'end', at, status });
    this.#publish({ type: 'end', at, status, error: ending.error });
    return undefined;
  }

  #record(event: Exclude<Reducible, { type: 'end' }>): void {
    if (this.hasEnded) return;
    this.#state = reduce(this.#state, event);
    this.#publish(event);
  }

  #sampleIn(phase: Phase): void {
    if (phase === 'ram') this.#timer ??= setInterval(() => this.sample(), SAMPLE_MS).unref();
    else this.#stopSampling();
  }

  #stopSampling(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

import type { ProgressAccount } from '../../protocol/progress.ts';
import type { Journal } from '../journal.ts';
import type { Arrivals } from './arrivals.ts';

/**
 * The passes over RAM as a destination hears of them. A section of a version 1 source is none: QEMU ends one every 50 ms. What it sends is one
 * pass, as far as can be told here.
 */
export class Passes {
  readonly #journal: Journal;
  readonly #arrivals: Arrivals;
  readonly #told: boolean;
  #count = 0;

  /** `told`: the source is one of ours, each of whose sections is a pass. */
  constructor(journal: Journal, arrivals: Arrivals, told: boolean) {
    this.#journal = journal;
    this.#arrivals = arrivals;
    this.#told = told;
  }

  get count(): number {
    return this.#count;
  }

  /** A section begins. Nobody says how much a later pass is to move, but for {@link note}. */
  begins(ramBytes: number): void {
    if (this.#count > 0 && !this.#told) return;
    this.#count += 1;
    const pending = this.#count === 1 ? { pending: ramBytes } : {};
    this.#journal.tell({ type: 'round', state: 'begins', round: this.#count, ...pending, live: false });
  }

  /** REGISTER_FINISHED has come. */
  ends(): void {
    if (this.#told && this.#count > 0) this.#end();
  }

  /** All of RAM has come. */
  ramEnds(): void {
    if (!this.#told) this.#end();
  }

  /** The source has told how far it is. */
  note(account: ProgressAccount): void {
    this.#arrivals.told(account);
    const { round, pending } = account;
    const { pass } = this.#journal;
    if (pass?.round === round && pass.pending !== pending)
      this.#journal.tell({ type: 'round', state: 'begins', round, pending, live: false });
  }

  #end(): void {
    this.#arrivals.passEnds();
    this.#journal.tell({ type: 'round', state: 'ends', round: this.#count });
  }
}

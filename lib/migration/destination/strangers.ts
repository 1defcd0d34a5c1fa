import type { NativeStranger } from '../../native/transport.ts';

/**
 * Those who came to a destination and spoke something else. Said when the first comes, and then each time when there are twice as many: a
 * health check that connects every second must not fill a log.
 */
export class Strangers {
  readonly #notice: (message: string) => void;
  #count = 0;
  #said = 0;
  #last: NativeStranger | undefined;

  constructor(notice: (message: string) => void) {
    this.#notice = notice;
  }

  came(stranger: NativeStranger): void {
    this.#count += stranger.count;
    this.#last = stranger;
    if (this.#count < 2 * this.#said) return;
    this.#said = this.#count;
    this.#notice(`turned away: ${this.summary}`);
  }

  /** undefined: nobody came. */
  get summary(): string | undefined {
    if (this.#last === undefined) return undefined;
    const { address, spoke } = this.#last;
    const others = this.#count > 1 ? `, the last of ${this.#count} that were no sources` : '';
    return `${address} spoke ${spoke}${others}`;
  }
}

/** Says who was refused: each of the first ones, then each time when there are twice as many, for a storm must not fill a log. */
import type { MigrationError } from '../../errors.ts';

const SAID_EACH = 16;

/** A refusal in a sentence, who it was, and the code of the error. */
export type SayRefused = (message: string, peer: string, code: MigrationError['code']) => void;

export class Refusals {
  readonly #notice: SayRefused;
  /** So far, and how many there were when it was last said. */
  #count = 0;
  #said = 0;

  constructor(notice: SayRefused) {
    this.#notice = notice;
  }

  add(peer: string, { message, code }: MigrationError): void {
    this.#count += 1;
    if (this.#count > SAID_EACH && this.#count < 2 * this.#said) return;
    this.#said = this.#count;
    const others = this.#count > SAID_EACH ? ` (the last of ${this.#count} that were refused)` : '';
    this.#notice(`refused ${peer}: ${message}${others}`, peer, code);
  }
}

/** Whose turn it is to open a stream at the end that anybody may dial: one host that comes often takes no place from another. Pure. */

/** Of one host at one time, until its stream has begun. A source opens one after the other, so this is for four of them. */
export const OPENINGS_OF_ONE_HOST = 4;

export class Openings<T> {
  readonly #begin: (guest: T) => Promise<void>;
  readonly #underWay = new Map<string, number>();
  /** How many may wait is the listener's to say, which counts whom nobody has answered by their address. */
  readonly #waiting: { readonly host: string; readonly guest: T }[] = [];

  /** @param begin lets a guest in; resolves when its place is free again, and never rejects */
  constructor(begin: (guest: T) => Promise<void>) {
    this.#begin = begin;
  }

  /** The guest begins now, or when others of its host have. */
  come(host: string, guest: T): void {
    const underWay = this.#underWay.get(host) ?? 0;
    if (underWay >= OPENINGS_OF_ONE_HOST) {
      this.#waiting.push({ host, guest });
      return;
    }
    this.#underWay.set(host, underWay + 1);
    void this.#begin(guest).then(() => this.#leave(host));
  }

  #leave(host: string): void {
    const others = (this.#underWay.get(host) ?? 0) - 1;
    if (others > 0) this.#underWay.set(host, others);
    else this.#underWay.delete(host);
    const next = this.#waiting.findIndex((waiting) => waiting.host === host);
    const [waiting] = next < 0 ? [] : this.#waiting.splice(next, 1);
    if (waiting) this.come(host, waiting.guest);
  }

  /** Those who wait, who do so no longer. */
  clear(): readonly T[] {
    return this.#waiting.splice(0).map(({ guest }) => guest);
  }
}

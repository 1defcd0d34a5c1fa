/** Whose turn it is to open a stream at the end that anybody may dial: one host that comes often takes no place from another. Pure. */
import { surplus } from '../trust/fairness.ts';

/** Of one host at one time, until its stream has begun. A source opens one after the other, so this is for four of them. */
export const OPENINGS_OF_ONE_HOST = 4;
/** Of all hosts. Fewer than may be unanswered at a listener (64), so that whoever comes then is answered. */
export const WAITING = { fair: 24, most: 32 } as const;

export class Openings<T> {
  readonly #begin: (guest: T) => Promise<void>;
  readonly #underWay = new Map<string, number>();
  readonly #waiting: { readonly host: string; readonly guest: T }[] = [];

  /** @param begin lets a guest in; resolves when its place is free again, and never rejects */
  constructor(begin: (guest: T) => Promise<void>) {
    this.#begin = begin;
  }

  /** The guest begins now, or when others of its host have. Gives back who has to go: of the host that has most waiting. */
  come(host: string, guest: T): T | undefined {
    const underWay = this.#underWay.get(host) ?? 0;
    if (underWay >= OPENINGS_OF_ONE_HOST) {
      this.#waiting.push({ host, guest });
      return this.#surplus();
    }
    this.#underWay.set(host, underWay + 1);
    void this.#begin(guest).then(() => this.#leave(host));
    return undefined;
  }

  #surplus(): T | undefined {
    const leaving = surplus(
      this.#waiting.map(({ host }) => host),
      WAITING,
    );
    return leaving === undefined ? undefined : this.#waiting.splice(leaving, 1)[0]?.guest;
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

/** Whose turn it is among peers that nobody knows yet: one host that comes often takes no turn from another. Pure. */

interface OfHost {
  readonly host: string;
}

function countsOf(guests: Iterable<OfHost>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { host } of guests) counts.set(host, (counts.get(host) ?? 0) + 1);
  return counts;
}

/** The position of who is let in next: of those whose host has the fewest inside the one that came first. -1: nobody waits. */
export function nextIn(waiting: readonly string[], inside: Iterable<OfHost>): number {
  const counts = countsOf(inside);
  const ranks = waiting.map((host) => counts.get(host) ?? 0);
  return ranks.indexOf(Math.min(...ranks));
}

/** Who is to make room next, and when. */
export interface Leaving<T> {
  readonly guest: T;
  readonly due: number;
}

/**
 * Of the hosts that have most inside the guest that has had its time first. undefined: nobody is inside.
 * @param patience how long a guest has from its `since` on, given how many its host has inside
 */
export function nextOut<T extends OfHost & { readonly since: number }>(
  inside: Iterable<T>,
  patience: (guest: T, count: number) => number,
): Leaving<T> | undefined {
  const guests = [...inside];
  const counts = countsOf(guests);
  const most = Math.max(0, ...counts.values());
  const leaving = guests
    .filter(({ host }) => counts.get(host) === most)
    .map((guest) => ({ guest, due: guest.since + patience(guest, most) }));
  return leaving.reduce<Leaving<T> | undefined>(
    (first, other) => (first && first.due <= other.due ? first : other),
    undefined,
  );
}

/**
 * The position of one that waits and has to go: where more than `most` wait the one that came last, where more than `fair` wait the last of the host
 * that has most waiting, unless each has but one. undefined: nobody.
 */
export function surplus(
  waiting: readonly string[],
  { fair, most }: { readonly fair: number; readonly most: number },
): number | undefined {
  if (waiting.length > fair) {
    const counts = countsOf(waiting.map((host) => ({ host })));
    const largest = Math.max(...counts.values());
    if (largest > 1) return waiting.findLastIndex((host) => counts.get(host) === largest);
  }
  return waiting.length > most ? waiting.length - 1 : undefined;
}

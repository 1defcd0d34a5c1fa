/** What several measurements of one thing come to. Pure. */

/** @throws RangeError nothing was measured */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export interface Spread {
  readonly least: number;
  readonly median: number;
  readonly most: number;
}

/** @throws RangeError nothing was measured */
export function spreadOf(values: readonly number[]): Spread {
  return { least: Math.min(...values), median: median(values), most: Math.max(...values) };
}

/** The median of those that have the figure; undefined: none has. */
export function medianOf<T>(
  samples: readonly T[],
  figure: (sample: T) => number | undefined,
): number | undefined {
  const values = samples.map(figure).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : median(values);
}

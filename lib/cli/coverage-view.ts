import type { Coverage } from '../ram/coverage.ts';
import { formatBytes } from './format.ts';

/** `teller`: who tells of pages, such as `the source`. */
export function coverageLine({ state, missing, reason = '' }: Coverage, teller: string): string {
  if (state === 'whole') return `${teller} told of every page of RAM`;
  if (state === 'unknown') return `not known whether ${teller} told of every page of RAM: ${reason}`;
  return `RAM with gaps: ${teller} told nothing of ${formatBytes(BigInt(missing))}, which are zeros here: ${reason}`;
}

import type { Coverage } from '../ram/coverage.ts';
import { formatBytes } from './format.ts';

/** `teller`: who accounts for pages, such as `the source`. */
export function coverageLine({ state, missing, reason = '' }: Coverage, teller: string): string {
  if (state === 'whole') return `${teller} accounted for every page of RAM`;
  if (state === 'unknown') return `not known whether ${teller} accounted for every page of RAM: ${reason}`;
  return `RAM with gaps: ${teller} did not account for ${formatBytes(BigInt(missing))}, which are zeros here: ${reason}`;
}

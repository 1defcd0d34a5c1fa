/** The suites of test:vm. */
import type { InsideSettings } from './interop/inside.ts';

/** In the order in which they run. `without` removes rdma-core, so it is last. */
export const SUITES = ['fabric', 'limits', 'device', 'interop', 'without'] as const;
export type Suite = (typeof SUITES)[number];

export interface SuitesSettings {
  readonly device: 'siw' | 'rxe';
  readonly suites: readonly Suite[];
  readonly interop: InsideSettings;
}

/** Exit code: the kernel keeps the first of the suites waiting for ever (stuck.ts). Added to it: that suite's index among those asked for. */
export const STUCK_AT = 80;

export const FABRIC_BUILD = 'build';

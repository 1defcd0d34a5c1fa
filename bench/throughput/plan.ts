/** What a run of `npm run bench` is to measure. */
import type { Channels } from './ours.ts';

export const GROUPS = ['touched', 'fresh', 'qemu', 'flat', 'sparse', 'tls'] as const;
export type GroupName = (typeof GROUPS)[number];

/** Sizes are MiB, as on the command line. */
export interface Plan {
  readonly only: readonly GroupName[];
  readonly mib: number;
  readonly freshMib: number;
  readonly flatMib: readonly number[];
  readonly sparseGib: number;
  readonly sparseMib: number;
  readonly channels: readonly Channels[];
  readonly multifd: readonly number[];
  /** The folder of another build. */
  readonly beside?: string | undefined;
}

import type { MigrationResult } from 'rdma-migrate';

/** What the second process is asked for: take one VM from rdma: into a QEMU that waits, and let it run there. */
export interface DestinationJob {
  /** QMP socket of the waiting QEMU. */
  readonly qmpSocket: string;
  readonly ramFiles: Readonly<Record<string, string>>;
  /** An existing folder for a socket. */
  readonly folder: string;
  readonly uri: string;
}

/** What it tells. */
export type DestinationReport =
  | { readonly type: 'listening'; readonly uri: string }
  /** The guest runs there. */
  | { readonly type: 'running'; readonly result: MigrationResult }
  | { readonly type: 'failed'; readonly message: string };

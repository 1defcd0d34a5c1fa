import type { MigrationResult } from 'rdma-migrate';

/** What the demo asks of its second process: wait at a free port of this machine for one VM and keep it as an image. */
export interface ReceiverJob {
  /** Absolute path of the image to make. */
  readonly image: string;
  /** Where RAM blocks are to lie that belong outside of the image. */
  readonly ramFiles: Readonly<Record<string, string>>;
  readonly crc: boolean;
}

/** What the second process tells. */
export type ReceiverReport =
  | { readonly type: 'listening'; readonly uri: string }
  | { readonly type: 'received'; readonly result: MigrationResult }
  | { readonly type: 'failed'; readonly message: string };

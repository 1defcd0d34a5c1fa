import type { DestinationProcess } from '../destination/process.ts';
import type { Narrator } from './narrator.ts';
import type { DemoOptions } from './options.ts';
import type { ReceiverJob } from './receiver.ts';
import type { Workspace } from './workspace.ts';

/** What both kinds of demo work with. */
export interface DemoContext {
  readonly options: Pick<DemoOptions, 'pinAll' | 'crc'>;
  /** Bytes of the VM's RAM. */
  readonly ramBytes: number;
  readonly narrator: Narrator;
  readonly workspace: Workspace;
  /** Ends everything. */
  readonly signal: AbortSignal;
  readonly startReceiver: (job: ReceiverJob) => Promise<DestinationProcess>;
}

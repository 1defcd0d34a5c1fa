/** Two ends of ours in one process, run until both have ended, and what each reports then. */
import {
  type MigrationDestination as Destination,
  type DestinationOptions,
  type DestinationTarget,
  MigrationDestination,
  MigrationError,
  type MigrationResult,
  MigrationSource,
  type SourceOptions,
  type SourceVm,
} from '../../lib/index.ts';
import { MemoryTarget } from './memory-vm.ts';

export interface Ended {
  readonly sent: MigrationResult | MigrationError;
  readonly received: MigrationResult | MigrationError;
}

export interface Settings {
  readonly source?: SourceOptions;
  readonly destination?: DestinationOptions;
  /** Called with both ends before the source begins. */
  readonly watch?: (source: MigrationSource, destination: Destination, cancel: AbortController) => void;
}

/** One migration to its end, with any outcome. */
export async function migrate(
  vm: SourceVm,
  target: DestinationTarget,
  settings: Settings = {},
): Promise<Ended> {
  const limits = { provider: 'iwarp', responseTimeoutMs: 5_000 } as const;
  const cancel = new AbortController();
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    ...limits,
    ...settings.destination,
  });
  const source = new MigrationSource(vm, destination.uri, { ...limits, ...settings.source });
  settings.watch?.(source, destination, cancel);
  const receiving = outcome(destination.receive());
  return { sent: await outcome(source.migrate({ signal: cancel.signal })), received: await receiving };
}

export async function outcome(result: Promise<MigrationResult>): Promise<MigrationResult | MigrationError> {
  return result.catch((error: unknown) => {
    if (error instanceof MigrationError) return error;
    throw error;
  });
}

export const codes = ({ sent, received }: Ended): string[] =>
  [sent, received].map((end) => (end instanceof MigrationError ? end.code : end.outcome));

/** A target whose commit does what the test says. */
export class Committing extends MemoryTarget {
  readonly commits: (() => Promise<void>)[] = [];
  aborts = 0;
  readonly #commit: (target: Committing) => Promise<void>;

  constructor(commit: (target: Committing) => Promise<void>) {
    super();
    this.#commit = commit;
  }

  override commit(): Promise<void> {
    return this.#commit(this);
  }

  override async abort(): Promise<void> {
    this.aborts += 1;
    this.onAbort();
  }

  onAbort = (): void => {};
}

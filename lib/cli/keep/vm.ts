/** What is said of one VM among many. */
import { join } from 'node:path';
import type { MigrationDestination } from '../../migration/destination/destination.ts';
import type { IncomingVm } from '../../migration/destination/service.ts';
import type { EndEvent } from '../../migration/events.ts';
import { exitCodeOf } from '../exit-codes.ts';
import { follow } from '../follow.ts';
import { migrationSummary } from '../migration-view.ts';
import type { Reporter } from '../reporter.ts';
import type { Ledger } from './ledger.ts';

interface Settings {
  readonly vm: IncomingVm;
  readonly folder: string;
  /** Of this VM. */
  readonly reporter: Reporter;
  readonly ledger: Ledger;
}

/** Resolves when everything has been said of it. */
export async function followVm(migration: MigrationDestination, settings: Settings): Promise<void> {
  const { vm, reporter } = settings;
  const ended = new Promise<EndEvent>((resolve) => {
    migration.once('end', resolve);
  });
  reporter.started(`a VM comes from ${vm.peer}`, { peer: vm.peer });
  tellEnd(await follow(migration, reporter, () => ended), settings);
}

function tellEnd(end: EndEvent, { vm, folder, reporter, ledger }: Settings): void {
  const image = join(folder, vm.migrationId);
  if (end.status === 'completed') {
    ledger.received();
    reporter.completed({ ...end.result, image }, migrationSummary('received', image, end.result));
    return;
  }
  const { error } = end;
  ledger.ended(error, end.status === 'cancelled');
  const left =
    error.code === 'COMMIT_UNKNOWN' || error.code === 'IMAGE_EXISTS' ? undefined : 'nothing of it was kept';
  reporter.failed({ error, exitCode: exitCodeOf(error.code), left });
}

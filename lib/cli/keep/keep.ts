import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationError } from '../../errors.ts';
import { findLeftovers, ImageWriter, removeLeftover } from '../../image/index.ts';
import {
  type DrainPolicy,
  MigrationService,
  type OpenServiceTarget,
} from '../../migration/destination/service.ts';
import { checkServiceOptions } from '../../migration/option-schema.ts';
import type { ServiceOptions } from '../../migration/options.ts';
import { endOptions } from '../end-options.ts';
import { noticeLeftovers } from '../image-clean.ts';
import type { ReceiveOptions } from '../program.ts';
import { receiverOptions } from '../receiver-options.ts';
import type { Reporter } from '../reporter.ts';
import type { CommandContext } from '../run.ts';
import { openPage } from '../web.ts';
import { ON_COMMAND_LINE } from '../wording.ts';
import { FolderSpace } from './folder-space.ts';
import { KeptVm } from './kept-vm.ts';
import { Ledger } from './ledger.ts';
import { ServiceManager } from './service-manager.ts';
import { followVm } from './vm.ts';

/** How often the service manager hears how many are under way, while that changes, milliseconds. */
const STATUS_MS = 500;

/** `rdma-migrate receive --keep`: receives VMs into a folder until it is told to end. */
export async function receiveIntoFolder(
  context: CommandContext,
  uri: string,
  folder: string,
  options: ReceiveOptions,
): Promise<void> {
  const { reporter, signal } = context;
  const wanted = serviceOptions(options);
  checkServiceOptions(wanted, ON_COMMAND_LINE);
  await using page = await openPage(context, options);
  await tidy(reporter, folder);
  const ledger = new Ledger();
  const vms = new Set<Promise<void>>();
  using manager = new ServiceManager((message) => reporter.notice(message));
  const space = options.overcommitDisk ? undefined : new FolderSpace(folder);
  const open: OpenServiceTarget = async ({ migrationId }, migration) => {
    const writer = await ImageWriter.open(join(folder, migrationId), { digests: options.digests });
    return new KeptVm(writer, {
      take: async (ramBytes) =>
        space?.take(migrationId, ramBytes, () => migration.current.ram['normal-bytes']),
      giveBack: () => space?.giveBack(migrationId),
    });
  };
  await using service = await MigrationService.listen(uri, open, wanted);
  service.on('notice', (message, { code, details }) => reporter.notice(message, { code, details }));
  service.on('migration', (migration, vm) => {
    // Its end is told as every other, to whoever follows it.
    page.showOne(migration, `${vm.migrationId} from ${vm.peer}`, () => void migration.close());
    const following = followVm(migration, { vm, folder, reporter: reporter.of(vm.migrationId), ledger });
    vms.add(following);
    void following.finally(() => vms.delete(following));
  });
  reporter.listening(service.uri);
  const status = (): string => `at ${service.uri}: ${service.underWay} under way, ${ledger.inWords}`;
  const begins = (): void => {
    ledger.drains();
    manager.stopping();
  };
  const drain = new Drain(service, { ...options, signal, begins });
  manager.ready(status, STATUS_MS);
  try {
    await service.serve();
  } finally {
    drain.end();
  }
  await Promise.all(vms);
  ledger.settle(reporter, folder);
}

function serviceOptions(options: ReceiveOptions): ServiceOptions {
  const { maxMigrations } = options;
  return {
    ...endOptions(options),
    ...receiverOptions(options),
    ...(maxMigrations !== undefined && { maxMigrations }),
    ramIsFresh: true,
  };
}

/** Nobody comes by to clear away what a service left that was killed: what is certainly dead goes when the next one starts. */
async function tidy(reporter: Reporter, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw noFolder(folder, cause);
  });
  for (const leftover of await findLeftovers(folder)) {
    if (leftover.owner !== 'dead') continue;
    const gone = await removeLeftover(leftover).catch(() => false);
    if (gone) reporter.notice(`removed ${leftover.path}, left by a receive that died`);
  }
  await noticeLeftovers(reporter, join(folder, 'any'));
}

function noFolder(folder: string, cause: unknown): MigrationError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message = `VMs cannot be kept in ${folder}: ${why}. Name a folder that this user may write to`;
  return new MigrationError('PERMISSION_DENIED', 'image', message, { cause });
}

interface DrainSettings {
  readonly signal: AbortSignal;
  readonly onTerm?: DrainPolicy;
  /** Milliseconds. */
  readonly drainTimeout?: number;
  readonly begins: () => void;
}

/** Ends a service when its process is told to end. */
class Drain {
  #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal;
  readonly #drain: () => void;

  constructor(service: MigrationService, { signal, onTerm = 'finish', drainTimeout, begins }: DrainSettings) {
    this.#signal = signal;
    this.#drain = () => {
      begins();
      service.drain(onTerm);
      if (drainTimeout !== undefined)
        this.#timer = setTimeout(() => service.drain('cancel'), drainTimeout).unref();
    };
    if (signal.aborted) this.#drain();
    else signal.addEventListener('abort', this.#drain, { once: true });
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#drain);
  }
}

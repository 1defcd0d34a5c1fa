import { MigrationError } from '../errors.ts';
import { MigrationDestination } from '../migration/destination/destination.ts';
import { checkDestinationOptions } from '../migration/option-schema.ts';
import type { DestinationOptions } from '../migration/options.ts';
import { connectQemu } from '../qemu/connect.ts';
import { IncomingVm } from '../qemu/incoming.ts';
import { LaunchedQemu } from '../qemu/launch.ts';
import { defaultStateFolder, makeStateFolder, Records } from '../qemu/records.ts';
import { StatusService } from '../qemu/status.ts';
import { sweepState } from '../qemu/sweep.ts';
import { joinedQemu, untilItEnds, type WaitingQemu } from '../qemu/waiting.ts';
import { endOptions } from './end-options.ts';
import { follow } from './follow.ts';
import { migrationSummary } from './migration-view.ts';
import type { QemuReceiveOptions } from './qemu-program.ts';
import { SourceDeadline } from './receive.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';
import { openPage, type Page } from './web.ts';
import { ON_COMMAND_LINE } from './wording.ts';

/** `rdma-migrate qemu receive`: waits for a running guest and lets it go on in a QEMU of this host. */
export async function qemuReceive(
  context: CommandContext,
  uri: string,
  command: readonly string[],
  options: QemuReceiveOptions,
): Promise<void> {
  const wanted = destinationOptions(options);
  checkDestinationOptions(wanted, ON_COMMAND_LINE);
  requireOneQemu(command, options);
  await using page = await openPage(context, options);
  const stateFolder = options.stateDir ?? defaultStateFolder();
  await makeStateFolder(stateFolder);
  await sweepState(stateFolder);
  const records = new Records(stateFolder);
  if (options.qmp !== undefined) {
    await using connected = await connectQemu(options.qmp, { pid: options.pid, signal: context.signal });
    const qemu = await joinedQemu(connected.qmp, connected.pid, connected.qmpSocket);
    await receiveInto(context, uri, { qemu, folder: stateFolder, records, options, wanted, page });
    return;
  }
  await using launched = await LaunchedQemu.start(stateFolder, command, context.signal);
  await receiveInto(context, uri, {
    qemu: launched,
    folder: launched.folder,
    records,
    options,
    wanted,
    page,
  });
}

function requireOneQemu(command: readonly string[], { qmp }: QemuReceiveOptions): void {
  if (command.length > 0 !== (qmp !== undefined)) return;
  const message = 'expected either the QEMU to start, after --, or --qmp with the socket of one that waits';
  throw new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

interface Place {
  readonly qemu: WaitingQemu;
  readonly folder: string;
  readonly records: Records;
  readonly options: QemuReceiveOptions;
  readonly wanted: DestinationOptions;
  readonly page: Page;
}

async function receiveInto(context: CommandContext, uri: string, place: Place): Promise<void> {
  const { qemu, folder, records, options, wanted, page } = place;
  const { reporter } = context;
  await using vm = await IncomingVm.open({ qemu, folder, records, paused: options.paused === true });
  const destination = await MigrationDestination.listen(uri, vm, wanted);
  const address = destination.uri;
  const over = new AbortController();
  let told = true;
  // What fails before the source can have asked for the commit, it knows itself. That it has asked may be on its way still.
  let mayBeAsked = false;
  try {
    reporter.started(`QEMU is process ${qemu.pid}, ${vm.machine}, QMP at ${qemu.qmpSocket}`, {
      pid: qemu.pid,
      qmp: qemu.qmpSocket,
    });
    reporter.listening(address);
    context.onFailure('no guest runs here: the QEMU that waited has been ended');
    destination.on('phase', (phase) => {
      const { migrationId } = destination;
      if (phase === 'device-state' || phase === 'commit') mayBeAsked = true;
      if (phase === 'setup' && migrationId)
        vm.expect(migrationId).catch((error: Error) => reporter.notice(error.message));
    });
    destination.on('notice', (_, { code }) => {
      if (code === 'SOURCE_NOT_TOLD') told = false;
    });
    const deadline = new SourceDeadline(destination, options.timeout);
    const died = untilItEnds(qemu, over.signal);
    const shown = page.show(destination, `a guest into process ${qemu.pid} at ${address}`);
    const result = await follow(destination, reporter, () =>
      destination.receive({ signal: AbortSignal.any([shown, deadline.signal, died]) }),
    );
    const facts = { ...result, pid: qemu.pid, qmp: qemu.qmpSocket };
    reporter.completed(facts, [
      ...migrationSummary('received', 'the guest', result).slice(0, -1),
      `the guest is here, in process ${qemu.pid} (QMP ${qemu.qmpSocket})${options.paused ? ', stopped (--paused): cont lets it go on' : ''}`,
    ]);
  } catch (error) {
    told = told && !mayBeAsked;
    throw error;
  } finally {
    over.abort();
    await destination.close();
    if (!told) await answer(context, address, place, destination.migrationId);
  }
}

/** A source that does not know what became of its guest may ask. */
async function answer(
  { reporter, signal }: CommandContext,
  uri: string,
  { records, options, wanted }: Place,
  migrationId: string | undefined,
): Promise<void> {
  try {
    await using service = await StatusService.listen(uri, wanted, async (id) =>
      id === migrationId ? records.word(id) : 'unknown',
    );
    reporter.notice(
      `the source may not know of it: it can ask at ${uri}, for ${options.statusTimeout / 1000} s`,
    );
    await service.untilTold(options.statusTimeout, signal);
  } catch (error) {
    reporter.notice(`the source cannot ask here what became of it: ${(error as Error).message}`);
  }
}

function destinationOptions(options: QemuReceiveOptions): DestinationOptions {
  const { allow, maxRam } = options;
  return {
    ...endOptions({ ...options, commit: 'require' }),
    ...tlsOptions(options),
    ...(allow && { allow }),
    ...(maxRam !== undefined && { maxRam }),
  };
}

import { MigrationError } from '../errors.ts';
import { checkSourceOptions } from '../migration/option-schema.ts';
import type { SourceOptions } from '../migration/options.ts';
import { MigrationSource } from '../migration/source/source.ts';
import { connectQemu } from '../qemu/connect.ts';
import { runState } from '../qemu/migration-status.ts';
import { OutgoingVm } from '../qemu/outgoing.ts';
import { askStatus, settle } from '../qemu/status.ts';
import type { TrackerWish } from '../qemu/tracker.ts';
import { connectOptions } from './connect-options.ts';
import { endOptions } from './end-options.ts';
import { follow } from './follow.ts';
import { formatBytes } from './format.ts';
import { migrationSummary } from './migration-view.ts';
import type { QemuMoveOptions } from './qemu-program.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';
import { openPage } from './web.ts';
import { ON_COMMAND_LINE } from './wording.ts';

/** `rdma-migrate qemu move`: moves the running guest of a QEMU of this host. */
export async function qemuMove(
  context: CommandContext,
  uri: string,
  options: QemuMoveOptions,
): Promise<void> {
  const { reporter, signal } = context;
  const wanted = sourceOptions(options);
  checkSourceOptions(wanted, ON_COMMAND_LINE);
  await using page = await openPage(context, options);
  await using qemu = await connectQemu(options.qmp, { pid: options.pid, signal });
  await using vm = await OutgoingVm.open({
    qmp: qemu.qmp,
    pid: qemu.pid,
    tracker: options.tracker as TrackerWish,
  });
  const source = new MigrationSource(vm, uri, wanted);
  const { migrationId } = source;
  const total = vm.blocks.reduce((sum, { length }) => sum + length, 0n);
  reporter.started(
    `moving the ${vm.running ? 'running' : 'stopped'} guest of process ${qemu.pid} (${vm.machine}, ${formatBytes(total)} of RAM) to ${uri}, migration ${migrationId}`,
    { uri, migrationId, pid: qemu.pid, machine: vm.machine, tracker: vm.tracker },
  );
  reporter.notice(`writes of the guest are detected by ${vm.tracker.kind}: ${vm.tracker.reason}`);
  context.onFailure(vm.running ? 'the guest runs on here' : 'the guest is still here, stopped as it was');
  const shown = page.show(source, `the guest of process ${qemu.pid} to ${uri}`);
  try {
    const result = await follow(source, reporter, () => source.migrate({ signal: shown }));
    const { live } = result;
    const stood =
      live?.downtime === undefined ? '' : `; the guest stood still for ${live.downtime.toFixed(0)} ms`;
    reporter.completed({ ...result }, [
      ...migrationSummary('sent', 'the guest', result).slice(0, -1),
      `moved: the guest is at the destination${live ? `, after ${live.rounds.length} rounds${stood}` : ''}. This QEMU keeps a stopped copy: end it, never let it go on`,
    ]);
  } catch (error) {
    try {
      if (!(error instanceof MigrationError) || error.code !== 'COMMIT_UNKNOWN') throw error;
      await settleHere({ context, vm, uri, options, migrationId, unknown: error });
    } catch (failure) {
      const state = await runState(qemu.qmp).catch(() => NOT_KNOWN);
      const stays = failedAs(vm, state);
      if (stays !== undefined) context.onFailure(stays);
      throw failure;
    }
  }
}

const NOT_KNOWN = 'not known';

/** What else than planned has become of a guest that could not be moved. */
function failedAs(vm: OutgoingVm, state: string): string | undefined {
  if (state === vm.state) return undefined;
  if (state === NOT_KNOWN)
    return 'QEMU says nothing more: whether the guest is here still, and runs, is not known';
  if (vm.running) return `the guest is here and does not run (QEMU says ${state}): cont lets it go on`;
  if (state !== 'postmigrate') return `the guest stood still here (${vm.state}), and QEMU says ${state} now`;
  // QMP has no way from there but cont, and a guest that stood still must not run.
  return `the guest is still here and stands still, but QEMU says ${state} and no longer ${vm.state}: only cont, which lets it run, leads from there`;
}

interface Unsettled {
  readonly context: CommandContext;
  readonly vm: OutgoingVm;
  readonly uri: string;
  readonly options: QemuMoveOptions;
  readonly migrationId: string;
  readonly unknown: MigrationError;
}

/**
 * The destination was asked to take the VM and its answer is missing: it is asked again. Until it says, the guest stands still here.
 * @throws MigrationError why the guest is here still; COMMIT_UNKNOWN: nobody could say
 */
async function settleHere({ context, vm, uri, options, migrationId, unknown }: Unsettled): Promise<void> {
  const { reporter } = context;
  reporter.notice(
    `the destination's answer is missing: asking it again, for ${options.settleTimeout / 1000} s at most`,
  );
  const ask = (signal: AbortSignal) =>
    askStatus(
      uri,
      migrationId,
      { ...endOptions({ ...options, commit: 'require' }), ...tlsOptions(options) },
      signal,
    );
  const word = await settle(ask, options.settleTimeout, undefined);
  if (word === 'taken') {
    const text =
      'moved: the destination has the guest, as it says when asked again. This QEMU keeps a stopped copy: end it, never let it go on';
    reporter.completed({ migrationId, outcome: 'committed', settled: true }, [text]);
    return;
  }
  if (word === 'not-taken') {
    await vm.guest.resume();
    throw new MigrationError(
      'CONNECTION_LOST',
      'commit',
      `the destination does not have the guest, as it says when asked again: it goes on here. ${unknown.message}`,
      {
        cause: unknown,
      },
    );
  }
  const message =
    `nobody could say within ${options.settleTimeout / 1000} s who has the guest of migration ${migrationId}: it stands still here. At the destination, ` +
    `rdma-migrate qemu status ${migrationId} says it. If it is taken, end the QEMU here; if not-taken, let it go on here (QMP cont). Before that do neither`;
  throw new MigrationError('COMMIT_UNKNOWN', 'commit', message, { cause: unknown, details: { migrationId } });
}

function sourceOptions(options: QemuMoveOptions): SourceOptions {
  const {
    pinAll,
    maxBandwidth,
    verify,
    downtimeLimit,
    availSwitchoverBandwidth,
    timeLimit,
    onTimeLimit,
    autoConverge,
  } = options;
  return {
    ...endOptions({ ...options, commit: 'require' }),
    ...tlsOptions(options),
    ...connectOptions(options),
    ...(pinAll !== undefined && { pinAll }),
    ...(maxBandwidth !== undefined && { maxBandwidth }),
    ...(verify !== undefined && { verify }),
    live: {
      ...(downtimeLimit !== undefined && { downtimeLimitMs: downtimeLimit }),
      ...(availSwitchoverBandwidth !== undefined && { availSwitchoverBandwidth }),
      ...(timeLimit !== undefined && { timeLimitMs: timeLimit }),
      ...(onTimeLimit !== undefined && { onTimeLimit }),
      ...(autoConverge !== undefined && { autoConverge }),
    },
  };
}

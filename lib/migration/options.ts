import { availableParallelism } from 'node:os';
import { MigrationError } from '../errors.ts';
import { invalid } from '../options/check.ts';
import type { MigrationHints } from '../ram/hints.ts';
import type { ConnectOptions } from '../transport/connect.ts';
import type { ProviderChoice, ProviderName } from '../transport/provider.ts';
import type { SourceTlsOptions, TlsOptions } from '../trust/credentials.ts';
import type { Trust } from '../trust/handshake.ts';
import type { ConvergenceLimits } from './live/convergence.ts';
import type { MigrationLogger } from './logger.ts';
import type { PinOptions } from './pins/pinning.ts';

/** What both ends can be told. */
export interface MigrationOptions extends PinOptions {
  /** Default `auto`. */
  readonly provider?: ProviderChoice;
  /**
   * Software RNIC: CRC32C on the wire, in use when either end asks. Default: between two ends of ours, unless one of them says false; not with
   * others, as the Linux driver `siw` has it. What `tls` encrypts is checked by that, and no CRC is in it. Devices check by themselves.
   */
  readonly crc?: boolean;
  /** Connecting, and as long again for the TLS handshake where there is one, milliseconds. Default 10 000, or `responseTimeoutMs` if that is less. */
  readonly connectTimeoutMs?: number;
  /**
   * The longest wait for the peer's next message, and for the wire to make progress, milliseconds. Default 60 000: a peer that pins
   * many gigabytes is silent for that time. Progress is a message that is whole, or a kibibyte a second.
   */
  readonly responseTimeoutMs?: number;
  /**
   * The longest wait for the commit, milliseconds. At the source: for COMMITTED; then COMMIT_UNKNOWN. At the destination: for COMMIT, while the
   * source reads its RAM for `verify`, and for its own target to make the VM durable. Default 600 000, or `responseTimeoutMs` if that is more:
   * a host that has written tens of gigabytes syncs for minutes. A peer that is dead is noticed sooner.
   */
  readonly commitTimeoutMs?: number;
  /**
   * The longest time for all of a migration, milliseconds: at the source from `migrate`, at the destination from the source's first message.
   * Then it fails with TIMEOUT, as by a cancel. Default: none; a peer that goes on is waited for however long it takes.
   */
  readonly totalTimeoutMs?: number;
  /**
   * The commit handshake that two rdma-migrate ends agree on. `auto` (default): if the peer has it. `require`: refuse a peer without it.
   * `off`: behave like a version 1 peer.
   */
  readonly commit?: 'auto' | 'require' | 'off';
  /** Where what happens is logged; what at which level is in docs/events.md. pino fits as it is. Default: nowhere. */
  readonly logger?: MigrationLogger;
  /**
   * QEMU's `multifd-channels`: queue pairs that carry the RAM of one migration side by side, 1 to 16. At the source how many it asks for
   * (default 2 on the software RNIC, 1 on a device), at the destination the most that it grants (default 16). A version 1 peer has one.
   */
  readonly channels?: number;
  /**
   * Between two ends of ours on the software RNIC: a migration whose link breaks looks for a new one and goes on where it was. Each end waits as long
   * as its own `windowMs` says; a guest that ran runs on meanwhile, one that stood still stands still. Not with `commit: 'off'`.
   */
  readonly resume?: ResumeOptions;
  /** Protects the migration with TLS 1.3. Both ends have it, or neither: an end refuses a peer that does not (TLS_REQUIRED). Default: none. */
  readonly tls?: TlsOptions;
}

/** How long an end looks for a new link when one breaks. */
export interface ResumeOptions {
  /** The longest search for a new link, milliseconds; 0: a broken link ends the migration. Default 10 000. */
  readonly windowMs?: number;
  /** Between two tries to connect again, milliseconds, at least 1; the source's counts. Default 250. */
  readonly retryMs?: number;
}

/** What shows that it is the peer that comes again is Node's OpenSSL's (native/crypto/libcrypto.h). */
const CAN_RESUME = Number.parseInt(process.versions.openssl ?? '0', 10) >= 3;
const RESUME_WINDOW_MS = 10_000;
const RESUME_RETRY_MS = 250;

/** undefined: a broken link ends the migration. */
export function resumeLimits({
  resume: { windowMs = RESUME_WINDOW_MS, retryMs = RESUME_RETRY_MS } = {},
  commit,
}: MigrationOptions): Required<ResumeOptions> | undefined {
  if (windowMs === 0 || commit === 'off' || !CAN_RESUME) return undefined;
  return { windowMs, retryMs };
}

/** More than any link has been seen to gain by, and a bound for what a peer makes this end hold. */
export const MOST_CHANNELS = 16;

/**
 * What a source asks for. Measured with two cores (docs/benchmarks.md): over one connection of the software RNIC its sender, one thread, is the
 * limit; two move about a third more, and four no more than two. A device's queue pair fills its link.
 */
export const channelsWanted = ({ channels }: MigrationOptions, provider: ProviderName): number =>
  channels ?? (provider === 'iwarp' ? 2 : 1);

export const channelsGranted = ({ channels = MOST_CHANNELS }: MigrationOptions): number => channels;

export interface SourceOptions extends MigrationOptions {
  /**
   * How long to try again while the destination is not up yet, milliseconds: nothing listens at its address (CONNECTION_REFUSED), its name is
   * not known (ADDRESS_NOT_FOUND), or it is full (BUSY), also if it says so to the first message only. Counts for `totalTimeoutMs` too. Default: it is tried once.
   */
  readonly waitMs?: number;
  readonly tls?: SourceTlsOptions;
  /** QEMU's `rdma-pin-all`: the destination registers all RAM at once. Default false. */
  readonly pinAll?: boolean;
  /** QEMU's `max-bandwidth`: bytes per second, 0 for no limit. Default 0. */
  readonly maxBandwidth?: bigint;
  /**
   * Compare a digest of all RAM on both sides as a part of the commit. Reads all RAM once more. Default false. Not with `commit: 'off'`; a
   * destination without the handshake is refused before anything moves (VERSION_MISMATCH).
   */
  readonly verify?: boolean;
  /**
   * Goes on from what an earlier try, whose destination died, has left there: digests of each 2 MiB are compared, and what is equal is not sent. Where there is
   * nothing, all is sent, and a notice says so. Not of a VM with a `guest`, nor with `commit: 'off'`. Default false.
   */
  readonly continue?: boolean;
  /** What the embedder knows of its guest's memory; may be added to while the migration runs. */
  readonly hints?: MigrationHints;
  /** What is allowed to a guest that runs while it is sent; nothing of it counts for one that stands still. */
  readonly live?: LiveOptions;
}

/** Names and defaults are QEMU's (migrate-set-parameters) where it has them. */
export interface LiveOptions {
  /** `downtime-limit`: how long the guest may stand still, milliseconds. Default 300. */
  readonly downtimeLimitMs?: number;
  /**
   * `avail-switchover-bandwidth`: bytes per second to reckon with when it is decided whether the guest can be stopped; nothing is limited by it.
   * 0 (default): what passes have shown of the link, whatever max-bandwidth allowed them.
   */
  readonly availSwitchoverBandwidth?: bigint;
  /** The longest time from the start to the stop of the guest, milliseconds. Default: none, as in QEMU. */
  readonly timeLimitMs?: number;
  /**
   * What happens at the time limit. `cancel` (default): NOT_CONVERGED, and the guest runs on. `stop-and-copy`: the guest stops, however long
   * the rest takes.
   */
  readonly onTimeLimit?: 'cancel' | 'stop-and-copy';
  /** `auto-converge`: slow a guest down that writes too fast, if the VMM can. Default false. */
  readonly autoConverge?: boolean;
  /** `cpu-throttle-initial`, `cpu-throttle-increment`, `max-cpu-throttle`, percent from 1 to 99. Defaults 20, 10, 99. */
  readonly cpuThrottleInitial?: number;
  readonly cpuThrottleIncrement?: number;
  readonly maxCpuThrottle?: number;
  /** `throttle-trigger-threshold`: percent of what a round sends, 1 to 100. Default 50. */
  readonly throttleTriggerThreshold?: number;
}

export interface DestinationOptions extends MigrationOptions {
  /**
   * Who may connect: addresses and networks, such as `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`. Everybody else is refused when it asks,
   * with a notice, before it is let in. An address can be forged by whoever sits in between: this keeps strangers out, and proves nothing. Default:
   * everybody; an empty list is nobody.
   */
  readonly allow?: readonly string[];
  /**
   * The most RAM that a source's VM may have, bytes; more is OUT_OF_MEMORY before anything is allocated. Default: for a target with
   * `ramIsFresh` the memory that is available, with swap and free huge pages, for another all that the machine has; in either case no more than
   * the cgroup allows. Sparse RAM, and RAM that goes to a disk, may have more: name how much.
   */
  readonly maxRam?: bigint;
  /**
   * How many connections of one address are looked at each second, 1 to 100 000; four seconds' worth, and 32 in any case, may come at once, more
   * are closed unread. Of a network of 64 bits of IPv6, and over a device, it counts only while 32 or more requests wait. Default 100: a migration has up to 16.
   */
  readonly connectionsPerSecond?: number;
  /**
   * Whether registered memory is touched ahead of the WRITEs, on threads of its own and at most 64 MiB beyond what they have filled. A first
   * touch on the way of a WRITE is several times slower; but where no core is to spare those threads keep event loops waiting (23 instead of 3 ms at the 99th percentile, with both
   * ends on two cores). The software RNIC stores what comes for empty pages of a new memfd or file through the file, which needs no first touch: `always` has that memory touched too,
   * `auto` (default) only other memory, and that with more than two cores.
   */
  readonly populate?: 'auto' | 'always' | 'never';
}

export interface ServiceOptions extends DestinationOptions {
  /** How many migrations may be under way at one time, 1 to 1024; a source that comes then is refused with BUSY. Default 16. */
  readonly maxMigrations?: number;
  /** The targets' {@link DestinationTarget.ramIsFresh}: it is promised to a source before its target is made. Default false. */
  readonly ramIsFresh?: boolean;
}

export const maxMigrations = ({ maxMigrations = 16 }: ServiceOptions): number => maxMigrations;

/** Which memory is touched ahead of the WRITEs. */
export type TouchedAhead = 'all' | 'unless-filled-through-file' | 'none';

export function touchedAhead(
  { populate = 'auto' }: DestinationOptions,
  cores = availableParallelism(),
): TouchedAhead {
  if (populate === 'auto') return cores > 2 ? 'unless-filled-through-file' : 'none';
  return populate === 'always' ? 'all' : 'none';
}

/** Live options, complete. */
export interface LiveParameters extends Omit<ConvergenceLimits, 'switchoverMs'> {
  /** 0: none. */
  readonly timeLimitMs: number;
  readonly onTimeLimit: 'cancel' | 'stop-and-copy';
}

export function liveParameters(options: LiveOptions = {}): LiveParameters {
  return {
    downtimeLimitMs: options.downtimeLimitMs ?? 300,
    availSwitchoverBandwidth: Number(options.availSwitchoverBandwidth ?? 0n),
    timeLimitMs: options.timeLimitMs ?? 0,
    onTimeLimit: options.onTimeLimit ?? 'cancel',
    autoConverge: options.autoConverge ?? false,
    cpuThrottleInitial: options.cpuThrottleInitial ?? 20,
    cpuThrottleIncrement: options.cpuThrottleIncrement ?? 10,
    maxCpuThrottle: options.maxCpuThrottle ?? 99,
    throttleTriggerThreshold: options.throttleTriggerThreshold ?? 50,
  };
}

const CONNECT_TIMEOUT_MS = 10_000;

const CONNECTIONS_PER_SECOND = 100;

/** {@link connectionOptions}, and those of the listener. */
export function listenerOptions(options: DestinationOptions, trust?: Trust): ConnectOptions {
  const { connectionsPerSecond = CONNECTIONS_PER_SECOND } = options;
  return { ...connectionOptions(options, trust), connectionsPerSecond };
}

export function connectionOptions(options: MigrationOptions, trust?: Trust): ConnectOptions {
  const stallTimeoutMs = options.responseTimeoutMs ?? 60_000;
  const connectTimeoutMs = options.connectTimeoutMs ?? Math.min(CONNECT_TIMEOUT_MS, stallTimeoutMs);
  const { crc } = options;
  const resume = resumeLimits(options);
  return {
    ...(crc !== undefined && { crc }),
    ...(resume && { resume }),
    ...(trust && { tls: trust }),
    connectTimeoutMs,
    stallTimeoutMs,
  };
}

const COMMIT_TIMEOUT_MS = 600_000;

export function commitTimeoutMs(options: MigrationOptions): number {
  const usual = Math.max(COMMIT_TIMEOUT_MS, connectionOptions(options).stallTimeoutMs);
  return options.commitTimeoutMs ?? usual;
}

/**
 * Refuses what can never converge, and what a VMM cannot mean.
 * @param switchoverMs of the VMM: {@link Guest.switchoverMs}
 * @throws MigrationError INVALID_ARGUMENT
 */
export function checkSwitchover(switchoverMs: number, { downtimeLimitMs }: LiveParameters): void {
  if (!isSwitchover(switchoverMs))
    throw invalid(
      `expected milliseconds, 0 or more, for the guest's switchoverMs but received ${String(switchoverMs)}`,
    );
  if (switchoverMs < downtimeLimitMs) return;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `the guest's switchoverMs (${switchoverMs} ms) takes all of downtimeLimitMs (${downtimeLimitMs} ms): it could never be stopped for so short a ` +
      'time. Allow more downtime than the VMM takes for itself',
    { details: { switchoverMs, downtimeLimitMs } },
  );
}

export const isSwitchover = (switchoverMs: unknown): switchoverMs is number =>
  typeof switchoverMs === 'number' && switchoverMs >= 0 && Number.isFinite(switchoverMs);

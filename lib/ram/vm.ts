import type { Coverage } from './coverage.ts';
import type { Mapping } from './mapping.ts';
import type { DirtyTracker, PageDigests } from './tracker.ts';

/** A RAM block as QEMU's stream names it. `length` in bytes. */
export interface RamBlockLayout {
  readonly name: string;
  readonly length: bigint;
  /** Guest-physical address, if the source's stream gave it (x-ignore-shared). */
  readonly guestAddress?: bigint;
}

/** What a destination learns about a VM before its RAM arrives. */
export interface VmLayout {
  /** QEMU machine type such as `pc-i440fx-7.2`. */
  readonly machine: string;
  readonly pageSize: number;
  /** In the order of the stream: the index is the block index of every control message. */
  readonly blocks: readonly RamBlockLayout[];
}

/** A RAM block and the memory that holds it. */
export interface RamBlock extends RamBlockLayout {
  readonly mapping: Mapping;
}

/** Identifies QEMU's ram section, as in the stream's START header. */
export interface RamSection {
  readonly sectionId: number;
  readonly instanceId: number;
}

/** What the VMM of a running guest provides for its migration. Each call has a deadline; what it throws becomes GUEST_ERROR. */
export interface Guest {
  /** Watches the blocks of the VM, except those in {@link settling}, in their order. Started and stopped by the migration. */
  readonly tracker: DirtyTracker;
  /**
   * Blocks, by name, whose content is final only once the guest is paused, such as small ones that the VMM copies then.
   * They are not tracked and are sent whole in the last pass.
   */
  readonly settling?: readonly string[];
  /**
   * The switch-over, milliseconds: how long pausing, saving the device state, and the `commit` of the destination's target take, as far as the VMM knows.
   * Starting the guest there is not part of the downtime unless that `commit` does it. May change while the migration runs. Default 0; less than
   * `downtimeLimitMs` when it begins.
   */
  readonly switchoverMs?: number;
  /** Resolves when no vCPU runs and nothing else writes the guest's RAM. The device state is read after that. */
  pause(): Promise<void>;
  /** Lets the guest go on after a migration that failed. Called if `pause` was called, however that ended. */
  resume(): Promise<void>;
  /**
   * Denies the guest this much of its CPU time, 0 to 99 percent. Without it a guest that writes too fast cannot be slowed down. 0 may come
   * while it is paused, and does not resume it.
   */
  throttle?(percentage: number): Promise<void>;
}

/** A VM to be sent. Its owner closes it. */
export interface SourceVm {
  /** Present: the guest runs, and is moved live. Absent: it is paused until the migration is over. */
  readonly guest?: Guest;
  readonly layout: VmLayout;
  readonly blocks: readonly RamBlock[];
  readonly ramSection: RamSection;
  /**
   * What its VMM says of the VM, 1 to 256 KiB, for the target at the other end to check before RAM moves ({@link DestinationTarget.describe}). What
   * it means is between the two. Default: nothing; a destination whose target does not ask is told nothing.
   */
  readonly description?: Uint8Array;
  /** The stream up to the START of the ram section: magic, version, CONFIGURATION. */
  readonly before: Uint8Array;
  /**
   * The stream after the ram section's END: device state, opaque. May be read more than once: that of a paused VM is read ahead, to
   * check whether an rdma-migrate destination would accept it.
   */
  after(): AsyncIterable<Uint8Array>;
  /**
   * Called once, when all has been sent but the message with which the destination can have the VM: whoever keeps a record of that writes it now,
   * before it may be true. What it rejects with ends the migration, and the VM is the source's. It has `responseTimeoutMs`; a running guest stands
   * still meanwhile.
   */
  beforeCommit?(migrationId: string): Promise<void>;
}

/** The digests of a tracker that compares content, by block name: those blocks are sent from copies of their pages. */
export function sentOf({ guest, blocks }: SourceVm): ReadonlyMap<string, PageDigests> {
  const sent = guest?.tracker.sent ?? [];
  const tracked = blocks.filter(({ name }) => !guest?.settling?.includes(name));
  return new Map(tracked.slice(0, sent.length).map(({ name }, i) => [name, sent[i] as PageDigests]));
}

/** A VM that comes, as its stream describes it before RAM: `allocate` answers with memory for it. */
export interface ReceivedVm {
  readonly layout: VmLayout;
  readonly ramSection: RamSection;
  readonly before: Uint8Array;
  /** The source goes on from what an earlier try has left ({@link DestinationTarget.canContinue}): `allocate` may answer with memory that has it. */
  readonly continues?: true;
}

/** What is known about a VM that has arrived whole. */
export interface Arrival {
  /** A UUID: which migration brought it. The source has the same, unless it is a version 1 peer or an older release. */
  readonly migrationId: string;
  /** host:port of the source. */
  readonly peer: string;
  readonly provider: 'iwarp' | 'verbs';
  /** How it is known to be whole: the commit handshake, or QEMU's description at the end of the device state. */
  readonly completeness: 'commit' | 'vmdescription';
  /** Absent: the source has accounted for every page. See {@link Coverage}. */
  readonly coverage?: Exclude<Coverage['state'], 'whole'>;
}

/** Where a received VM lands. Calls come in this order; `abort` may come at any time, even while another call is under way, and ends it. */
export interface DestinationTarget {
  /**
   * True: what `allocate` gives was never written, such as a new memfd or file, so every page of it is zero. A source of ours then leaves out
   * zeros, and a page that has nothing else is not touched here. Default false: every page that is to be zero is cleared.
   */
  readonly ramIsFresh?: boolean;
  /**
   * There is RAM of an earlier try: a source that asks for it (`continue`) compares digests of it with its own, and sends what differs. Nothing else of that RAM is
   * relied on, so it may be anything. Looked at before a source is let in. Default false.
   */
  readonly canContinue?: boolean;
  /** Provides memory for every block, in the layout's order, zero-filled unless `vm.continues`. The target remains its owner. */
  allocate(vm: ReceivedVm): Promise<readonly RamBlock[]>;
  /**
   * What the source's VMM says of the VM ({@link SourceVm.description}), once, after `allocate` and before any RAM: bytes of a peer. A rejection ends the
   * migration, and the source is told why. It has half of `responseTimeoutMs`. Not called for a source that says nothing.
   */
  describe?(description: Uint8Array): Promise<void>;
  /** A piece of device state, in order. */
  append(bytes: Uint8Array): Promise<void>;
  /**
   * Everything has arrived: make it durable. When this resolves the VM exists here and nowhere else. When it rejects, nothing is kept here, now
   * or later: the source's VM then goes on. If that cannot be promised, reject with COMMIT_UNKNOWN. An `abort` meanwhile asks for an end,
   * with either outcome.
   */
  commit(arrival: Arrival): Promise<void>;
  /** Undo everything. Idempotent; never throws. */
  abort(): Promise<void>;
}

import { MigrationError, toMigrationError } from '../../errors.ts';
import type { NativeTracker } from '../../native/dirty.ts';
import { native } from '../../native/index.ts';
import type { TrackerKind } from '../tracker.ts';
import type { RamBlock } from '../vm.ts';
import { type ChosenKind, chooseTracker } from './choose.ts';
import { RamTracker } from './native-tracker.ts';
import type { TrackerProbe, TrackerSupport, TrackOptions } from './options.ts';

const KINDS: readonly TrackerKind[] = ['write-protect', 'soft-dirty', 'bitmap', 'hash'];

/** What this kernel offers for these blocks and this process may use; for no blocks, in general. Leaves no trace. */
export function probeTrackers(blocks: readonly RamBlock[]): Promise<TrackerSupport> {
  return native.probeTrackers(blocks.map(({ mapping }) => mapping));
}

/**
 * Makes a tracker for a VM's blocks; `start()` begins the watch. What each kind needs, sees and costs is in docs/dirty-tracking.md.
 * @throws MigrationError INVALID_ARGUMENT, TRACKER_UNAVAILABLE, OUT_OF_MEMORY
 */
export function trackDirty(blocks: readonly RamBlock[], options: TrackOptions = {}): Promise<RamTracker> {
  return makeTracker(blocks, options, probeTrackers);
}

/** {@link trackDirty} on a kernel of the caller's. */
export async function makeTracker(
  blocks: readonly RamBlock[],
  options: TrackOptions,
  probe: TrackerProbe,
): Promise<RamTracker> {
  try {
    const chosen = await choose(blocks, options, probe);
    return new RamTracker(chosen, create(chosen.kind, blocks, options));
  } catch (error) {
    throw toMigrationError(error, 'ram');
  }
}

async function choose(
  blocks: readonly RamBlock[],
  options: TrackOptions,
  probe: TrackerProbe,
): Promise<ChosenKind> {
  const { kind = 'auto' } = options;
  if (kind === 'auto') return chooseTracker(options, await probe(blocks));
  if (!KINDS.includes(kind)) {
    throw new MigrationError(
      'INVALID_ARGUMENT',
      'ram',
      `expected auto, ${KINDS.join(', ')} for kind but received ${kind}`,
    );
  }
  return { kind, reason: 'the caller chose it' };
}

function create(kind: TrackerKind, blocks: readonly RamBlock[], options: TrackOptions): NativeTracker {
  const mappings = blocks.map(({ mapping }) => mapping);
  switch (kind) {
    case 'write-protect':
      return native.createWriteProtectTracker(mappings, { mode: 'best' });
    case 'hash':
      return native.createHashTracker(mappings, { threads: options.hashThreads ?? 0 });
    case 'bitmap': {
      const logs = required(kind, 'logs', options.logs);
      return native.createBitmapTracker(
        mappings,
        logs.map((log, index) => ({ offset: 0n, pageSize: mappings[index]?.pageSize ?? 4096, ...log })),
      );
    }
    case 'soft-dirty': {
      const { addresses, pauseWriters = 'signal' } = options;
      return native.createSoftDirtyTracker(mappings, {
        pid: required(kind, 'pid', options.pid),
        ...(addresses && { addresses }),
        ...(pauseWriters !== 'signal' && { cgroup: pauseWriters.cgroup }),
      });
    }
  }
}

function required<T>(kind: TrackerKind, name: string, value: T | undefined): T {
  if (value !== undefined) return value;
  throw new MigrationError('INVALID_ARGUMENT', 'ram', `a ${kind} tracker needs the option \`${name}\``);
}

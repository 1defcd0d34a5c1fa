/** How much RAM a source may declare: nothing of it is allocated before this was asked. */
import { MigrationError } from '../../errors.ts';
import { cgroupMemory } from '../../ram/cgroup.ts';
import { kilobytesOf, type ReadText, readText } from '../../ram/proc.ts';

/** The limit that is met first, in bytes. */
export interface RamLimit {
  readonly limit: bigint;
  /** `maxRam`, what /proc/meminfo says, or the cgroup's file. */
  readonly source: string;
}

/**
 * @param fresh the RAM is made when the source has declared it, so that only memory counts that is available now; otherwise the embedder may
 *   hold it already, and all that the machine has counts
 * @returns undefined: nothing is known of this machine
 */
export function machineLimit(fresh: boolean, read: ReadText = readText): RamLimit | undefined {
  const limits = [...memoryOf(fresh, read), ...groupsOf(read)];
  return limits.sort((a, b) => (a.limit < b.limit ? -1 : 1))[0];
}

function memoryOf(fresh: boolean, read: ReadText): RamLimit[] {
  const meminfo = read('/proc/meminfo');
  const memory = kilobytesOf(meminfo, fresh ? 'MemAvailable' : 'MemTotal');
  if (memory === undefined) return [];
  const swap = kilobytesOf(meminfo, fresh ? 'SwapFree' : 'SwapTotal') ?? 0n;
  // They are in MemTotal, and not in MemAvailable.
  const huge = fresh ? freeHugePages(meminfo) : 0n;
  const source = fresh ? 'available memory and swap' : 'memory and swap';
  return [{ limit: memory + swap + huge, source }];
}

function freeHugePages(meminfo: string | undefined): bigint {
  const free = /^HugePages_Free:\s+(\d+)/m.exec(meminfo ?? '')?.[1] ?? '0';
  return BigInt(free) * (kilobytesOf(meminfo, 'Hugepagesize') ?? 0n);
}

/** Without what they use: the cache of files is in that, and makes room. Huge pages are not theirs. */
function groupsOf(read: ReadText): RamLimit[] {
  const huge = freeHugePages(read('/proc/meminfo'));
  const groups = cgroupMemory(read).limits.filter(({ kind }) => kind === 'max');
  return groups.map(({ limit, file }) => ({ limit: limit + huge, source: file }));
}

interface Settings {
  /** What the operator allows; undefined: what the machine has. */
  readonly maxRam: bigint | undefined;
  readonly fresh: boolean;
}

/** @throws MigrationError OUT_OF_MEMORY with `needed`, `limit` and `source` */
export function checkDeclaredRam(ramBytes: bigint, { maxRam, fresh }: Settings, read?: ReadText): void {
  const most = maxRam === undefined ? machineLimit(fresh, read) : { limit: maxRam, source: 'maxRam' };
  if (most === undefined || ramBytes <= most.limit) return;
  const { limit, source } = most;
  const why = maxRam === undefined ? `and this machine has ${limit} (${source})` : `and ${limit} are allowed`;
  const message =
    `the source's VM has ${ramBytes} bytes of RAM, ${why}. If it may come, because its RAM is sparse or goes to a disk, allow that ` +
    'much with --max-ram SIZE (maxRam)';
  throw new MigrationError('OUT_OF_MEMORY', 'setup', message, {
    details: { needed: ramBytes, limit, source },
  });
}

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

/** The RAM that the VMs of one listener have declared, and still need room for: they share what is allowed. */
export class DeclaredRam {
  readonly #underWay = new Map<object, bigint>();

  /**
   * Of one VM more; `owner` gives it back.
   * @throws MigrationError OUT_OF_MEMORY with `needed`, `limit`, `source`, and `underWay` where others have some
   */
  take(owner: object, ramBytes: bigint, { maxRam, fresh }: Settings, read?: ReadText): void {
    const most = maxRam === undefined ? machineLimit(fresh, read) : { limit: maxRam, source: 'maxRam' };
    const underWay = [...this.#underWay.values()].reduce((sum, bytes) => sum + bytes, 0n);
    if (most !== undefined && ramBytes + underWay > most.limit)
      throw tooMuch(ramBytes, underWay, most, maxRam !== undefined);
    this.#underWay.set(owner, ramBytes);
  }

  /** Idempotent. */
  giveBack(owner: object): void {
    this.#underWay.delete(owner);
  }
}

function tooMuch(needed: bigint, underWay: bigint, most: RamLimit, asked: boolean): MigrationError {
  const { limit, source } = most;
  const why = asked ? `and ${limit} are allowed` : `and this machine has ${limit} (${source})`;
  const others = underWay === 0n ? '' : `, of which the VMs that are on their way here have ${underWay}`;
  const message =
    `the source's VM has ${needed} bytes of RAM, ${why}${others}. If it may come, because its RAM is sparse or goes to a disk, allow that ` +
    'much with --max-ram SIZE (maxRam)';
  const details = { needed, limit, source, ...(underWay > 0n && { underWay }) };
  return new MigrationError('OUT_OF_MEMORY', 'setup', message, { details });
}

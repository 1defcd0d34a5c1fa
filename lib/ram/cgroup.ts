/** Memory limits of this process's control groups: version 2, or version 1 if the memory controller is there. */
import type { ReadText } from './proc.ts';

/** A limit set on one of the groups from the process's own up to the root of the mount. */
export interface CgroupLimit {
  /** Its path below the mount; `/` for the mount's root: the container's limit if there is a cgroup namespace. */
  readonly group: string;
  readonly file: string;
  /** `max` is never exceeded; beyond `high` the kernel slows the group down and reclaims memory. */
  readonly kind: 'max' | 'high';
  /** Bytes, and how many the group uses. */
  readonly limit: bigint;
  readonly usage: bigint;
}

export interface CgroupMemory {
  /** `none`: no memory controller in any group of this process. */
  readonly version: 'v1' | 'v2' | 'none';
  /** Without those that say "no limit". */
  readonly limits: readonly CgroupLimit[];
}

/** Version 1 says "no limit" with a number near 2^63. */
const UNLIMITED_V1 = 1n << 60n;

export function cgroupMemory(read: ReadText): CgroupMemory {
  const v2 = limitsV2(read);
  if (v2 !== undefined) return { version: 'v2', limits: v2 };
  const v1 = limitsV1(read);
  return v1 === undefined ? { version: 'none', limits: [] } : { version: 'v1', limits: v1 };
}

/** Of every level from the process's own group up to the root of the mount; undefined: no memory controller there. */
function limitsV2(read: ReadText): readonly CgroupLimit[] | undefined {
  const mount = mountOf(read, 'cgroup2');
  const own = ownGroup(read, /^0::(.*)$/m);
  if (mount === undefined || own === undefined) return undefined;
  const controllers = read(`${mount.path}/cgroup.controllers`) ?? '';
  if (!controllers.split(/\s+/).includes('memory')) return undefined;
  return ancestors(inMount(own, mount.root)).flatMap((group) => {
    const folder = join(mount.path, group);
    const usage = read(`${folder}/memory.current`);
    return (['max', 'high'] as const).flatMap((kind) => {
      const file = `${folder}/memory.${kind}`;
      return limitOf({ group, file, kind }, read(file), usage);
    });
  });
}

/** Version 1 gives one number for the limits of all ancestors. */
function limitsV1(read: ReadText): readonly CgroupLimit[] | undefined {
  const mount = mountOf(read, 'cgroup', 'memory');
  const own = ownGroup(read, /^\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?:(.*)$/m);
  if (mount === undefined || own === undefined) return undefined;
  const group = inMount(own, mount.root);
  const folder = join(mount.path, group);
  const limit = /^hierarchical_memory_limit (\d+)$/m.exec(read(`${folder}/memory.stat`) ?? '')?.[1];
  const file = `${folder}/memory.limit_in_bytes`;
  return limitOf({ group, file, kind: 'max' }, limit, read(`${folder}/memory.usage_in_bytes`)).filter(
    (found) => found.limit < UNLIMITED_V1,
  );
}

function limitOf(
  of: Pick<CgroupLimit, 'group' | 'file' | 'kind'>,
  limit: string | undefined,
  usage: string | undefined,
): CgroupLimit[] {
  const number = /^(\d+)\s*$/;
  const bytes = number.exec(limit ?? '')?.[1];
  if (bytes === undefined) return [];
  return [{ ...of, limit: BigInt(bytes), usage: BigInt(number.exec(usage ?? '')?.[1] ?? 0) }];
}

function ownGroup(read: ReadText, line: RegExp): string | undefined {
  return line.exec(read('/proc/self/cgroup') ?? '')?.[1];
}

/** Fields of proc(5) mountinfo: 4 is the root within the file system, 5 the mount point; after ` - ` type, source, options. */
function mountOf(read: ReadText, type: string, option?: string): { root: string; path: string } | undefined {
  for (const line of (read('/proc/self/mountinfo') ?? '').split('\n')) {
    const [mount = '', source = ''] = line.split(' - ');
    const [found, , options = ''] = source.split(' ');
    if (found !== type || (option !== undefined && !options.split(',').includes(option))) continue;
    const [, , , root, path] = mount.split(' ');
    if (root !== undefined && path !== undefined) return { root, path };
  }
  return undefined;
}

/** In a container the mount may show only a part of the tree. */
function inMount(group: string, root: string): string {
  if (root === '/' || (group !== root && !group.startsWith(`${root}/`))) return group;
  return group.slice(root.length) || '/';
}

function ancestors(group: string): string[] {
  const parts = group.split('/').filter((part) => part !== '');
  return parts.map((_part, index) => `/${parts.slice(0, parts.length - index).join('/')}`).concat('/');
}

function join(mount: string, group: string): string {
  return group === '/' ? mount : `${mount}${group}`;
}

/** Memory limits of the control groups that this process is in: version 2, and version 1 where the memory controller is there. */
import { type Check, named } from './check.ts';
import { gib, kilobytesOf, type System } from './system.ts';

interface Level {
  readonly group: string;
  readonly file: string;
  readonly limit: bigint;
  readonly usage: bigint;
}

/** Version 1 says "no limit" with a number near 2^63. */
const UNLIMITED_V1 = 1n << 60n;

export function checkCgroupMemory(system: System): Check {
  const { version, levels } = limitsOf(system);
  const check = named('cgroup-memory', 'cgroup memory', { details: { version } });
  const tightest = levels.reduce<Level | undefined>(
    (min, level) => (min && room(min) <= room(level) ? min : level),
    undefined,
  );
  if (version === 'none') return check.ok('no memory controller in any cgroup of this process');
  if (tightest === undefined)
    return check.ok(`no limit from the own cgroup up to the root (version ${version.slice(1)})`);
  const { group, file, limit, usage } = tightest;
  const details = {
    version,
    group,
    limit,
    usage,
    limits: levels.map((level) => `${level.group} ${level.limit}`),
  };
  const found = `${gib(usage)} of ${gib(limit)} used in ${group}`;
  const available = kilobytesOf(system.read('/proc/meminfo'), 'MemAvailable') ?? 0n;
  if (room(tightest) >= available) return check.ok(found, { details });
  return check.warning(
    `${found}: room for ${gib(room(tightest))}, less than the machine has`,
    `raise ${file}, or systemctl set-property UNIT MemoryMax=..., or the container's memory limit`,
    { details },
  );
}

function room({ limit, usage }: Level): bigint {
  return usage < limit ? limit - usage : 0n;
}

function limitsOf(system: System): { version: 'v1' | 'v2' | 'none'; levels: readonly Level[] } {
  const v2 = levelsV2(system);
  if (v2 !== undefined) return { version: 'v2', levels: v2 };
  const v1 = levelsV1(system);
  return v1 === undefined ? { version: 'none', levels: [] } : { version: 'v1', levels: v1 };
}

/** Every level from the own group up to the root of the mount; undefined: no memory controller there. */
function levelsV2(system: System): readonly Level[] | undefined {
  const mount = mountOf(system, 'cgroup2');
  const own = ownGroup(system, /^0::(.*)$/m);
  if (mount === undefined || own === undefined) return undefined;
  const groups = ancestors(inMount(own, mount.root)).map((group) => ({
    group,
    folder: join(mount.path, group),
  }));
  const controllers = system.read(`${mount.path}/cgroup.controllers`) ?? '';
  if (!controllers.split(/\s+/).includes('memory')) return undefined;
  return groups.flatMap(({ group, folder }) =>
    ['memory.max', 'memory.high'].flatMap((name) =>
      level(
        group,
        `${folder}/${name}`,
        system.read(`${folder}/${name}`),
        system.read(`${folder}/memory.current`),
      ),
    ),
  );
}

/** Version 1 sums the limits of all ancestors up in one number. */
function levelsV1(system: System): readonly Level[] | undefined {
  const mount = mountOf(system, 'cgroup', 'memory');
  const own = ownGroup(system, /^\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?:(.*)$/m);
  if (mount === undefined || own === undefined) return undefined;
  const group = inMount(own, mount.root);
  const folder = join(mount.path, group);
  const limit = /^hierarchical_memory_limit (\d+)$/m.exec(system.read(`${folder}/memory.stat`) ?? '')?.[1];
  const file = `${folder}/memory.limit_in_bytes`;
  return level(group, file, limit, system.read(`${folder}/memory.usage_in_bytes`)).filter(
    (found) => found.limit < UNLIMITED_V1,
  );
}

function level(group: string, file: string, limit: string | undefined, usage: string | undefined): Level[] {
  const number = /^(\d+)\s*$/;
  const limitBytes = number.exec(limit ?? '')?.[1];
  if (limitBytes === undefined) return [];
  return [{ group, file, limit: BigInt(limitBytes), usage: BigInt(number.exec(usage ?? '')?.[1] ?? 0) }];
}

function ownGroup({ read }: System, line: RegExp): string | undefined {
  return line.exec(read('/proc/self/cgroup') ?? '')?.[1];
}

/** Fields of proc(5) mountinfo: 4 is the root within the file system, 5 the mount point; behind ` - ` type, source, options. */
function mountOf(
  { read }: System,
  type: string,
  option?: string,
): { root: string; path: string } | undefined {
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

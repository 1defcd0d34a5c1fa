/** How much memory the control groups leave to this process. */
import { type CgroupLimit, cgroupMemory } from '../ram/cgroup.ts';
import { kilobytesOf } from '../ram/proc.ts';
import { type Check, named } from './check.ts';
import { gib, type System } from './system.ts';

export function checkCgroupMemory(system: System): Check {
  const { version, limits } = cgroupMemory(system.read);
  const check = named('cgroup-memory', 'cgroup memory', { details: { version } });
  const tightest = limits.reduce<CgroupLimit | undefined>(
    (min, next) => (min && room(min) <= room(next) ? min : next),
    undefined,
  );
  if (version === 'none') return check.ok('no memory controller in any cgroup of this process');
  if (tightest === undefined)
    return check.ok(`no limit from this cgroup up to the root (version ${version.slice(1)})`);
  const { group, file, limit, usage } = tightest;
  const details = {
    version,
    group,
    limit,
    usage,
    limits: limits.map((each) => `${each.group} ${each.limit}`),
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

function room({ limit, usage }: CgroupLimit): bigint {
  return usage < limit ? limit - usage : 0n;
}

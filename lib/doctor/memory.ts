/** Memory of this machine and this process. */
import { kilobytesOf, lockedMemory } from '../ram/proc.ts';
import { type Check, named } from './check.ts';
import { gib, type System } from './system.ts';

/** Less than this is tight even for the self-test and the programs around it. */
const LITTLE_MEMORY = 512n << 20n;

export function checkAvailableMemory({ read }: System): Check {
  const meminfo = read('/proc/meminfo');
  const available = kilobytesOf(meminfo, 'MemAvailable');
  const total = kilobytesOf(meminfo, 'MemTotal');
  const check = named('memory', 'memory');
  if (available === undefined || total === undefined) {
    return check.warning('/proc/meminfo cannot be read', 'mount /proc');
  }
  const found = `${gib(available)} available of ${gib(total)}`;
  const details = { available, total };
  if (available >= LITTLE_MEMORY) return check.ok(found, { details });
  return check.warning(found, 'end other programs or add memory: a VM needs as much as its RAM in use', {
    details,
  });
}

/** The limits on pinning. Only a real RDMA device pins pages: the software RNIC needs no locked memory. */
export function checkLockedMemory({ read, list }: System): Check {
  const { soft = 'unknown', hard = 'unknown', pinned, ipcLock } = lockedMemory(read);
  const details = { soft, hard, pinned, 'cap-ipc-lock': ipcLock };
  const check = named('locked-memory', 'locked memory', { details });
  const shown = `RLIMIT_MEMLOCK ${limitText(soft)}, hard ${limitText(hard)}`;
  const devices = list('/sys/class/infiniband').length > 0;
  if (!devices) return check.ok(`${shown}; the software iWARP pins nothing`);
  if (soft === 'unlimited') return check.ok(shown);
  const who = ipcLock
    ? 'siw can pin no more than that; other drivers honour CAP_IPC_LOCK'
    : 'an RDMA device can pin no more than that';
  return check.warning(
    `${shown}: ${who}, and a VM needs as much as its RAM`,
    'ulimit -l unlimited as root; for a service LimitMEMLOCK=infinity; for a user a line "USER - memlock unlimited" in /etc/security/limits.d/rdma.conf',
  );
}

function limitText(limit: string): string {
  return /^\d+$/.test(limit) ? `${BigInt(limit) / 1024n} KiB` : limit;
}

export function checkHugePages({ read, list }: System): Check {
  const root = '/sys/kernel/mm/hugepages';
  const sizes = list(root).map((name) => ({
    size: name.replace(/^hugepages-/, ''),
    total: Number(read(`${root}/${name}/nr_hugepages`) ?? 0),
    free: Number(read(`${root}/${name}/free_hugepages`) ?? 0),
  }));
  const reserved = sizes
    .filter(({ total }) => total > 0)
    .map(({ size, total, free }) => `${free} of ${total} of ${size} free`);
  const details = Object.fromEntries(
    sizes.flatMap(({ size, total, free }) => [
      [`${size}-total`, total],
      [`${size}-free`, free],
    ]),
  );
  const check = named('hugepages', 'huge pages', { details });
  return check.ok(
    reserved.length > 0 ? reserved.join(', ') : 'none reserved; only RAM on hugetlbfs needs them',
  );
}

/** RAM on a memfd gets transparent huge pages if this setting allows them on request. */
export function checkShmemHugePages({ read }: System): Check {
  const path = '/sys/kernel/mm/transparent_hugepage/shmem_enabled';
  const mode = /\[(\w+)\]/.exec(read(path) ?? '')?.[1];
  const check = named('shmem-thp', 'THP for shared memory', { details: { mode: mode ?? 'unknown' } });
  if (mode !== undefined && !['never', 'deny'].includes(mode)) return check.ok(`shmem_enabled is ${mode}`);
  if (mode === undefined) {
    return check.warning(
      'the kernel has none',
      'use a kernel with CONFIG_TRANSPARENT_HUGEPAGE for faster first touch of received RAM',
    );
  }
  return check.warning(
    `shmem_enabled is ${mode}: RAM that is received into a memfd is touched in pages of 4 KiB`,
    `echo advise > ${path}`,
  );
}

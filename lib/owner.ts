/** Which process a file on the disk is about, and whether it is still alive. */
import { readFile, readlink, statfs } from 'node:fs/promises';
import { z } from 'zod';

const word = z.string().max(4096);

export const ownerSchema = z.strictObject({
  pid: z.int().positive(),
  /** Field 22 of /proc/PID/stat: distinguishes a process from a later one with the same pid. */
  startTime: word,
  /** What `readlink /proc/self/ns/pid` gives. The first one of every host is called the same. */
  pidNamespace: word,
  bootId: word,
  /** From /etc/machine-id; absent if there is none, or in what an older release wrote. */
  machineId: word.optional(),
});
export type Owner = z.output<typeof ownerSchema>;

/** `dead`: certainly gone. `unknown`: another host, container or boot may still be working on it. */
export type OwnerState = 'alive' | 'dead' | 'unknown';

/** `path`: where the file is; whether another boot can be another host depends on its file system. */
export async function stateOf(owner: Owner, path: string): Promise<OwnerState> {
  const self = await describeSelf();
  if (owner.bootId !== self.bootId) return (await isEarlierBoot(owner, self, path)) ? 'dead' : 'unknown';
  if (owner.pidNamespace !== self.pidNamespace) return 'unknown';
  return (await startTimeOf(owner.pid)) === owner.startTime ? 'alive' : 'dead';
}

export async function describeSelf(): Promise<Owner> {
  const startTime = await startTimeOf(process.pid);
  if (startTime === undefined) throw new Error('/proc knows nothing of this process');
  const machineId = await machineIdOf();
  return {
    pid: process.pid,
    startTime,
    pidNamespace: await readlink('/proc/self/ns/pid'),
    bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(),
    ...(machineId !== undefined && { machineId }),
  };
}

async function machineIdOf(): Promise<string | undefined> {
  const id = await readFile('/etc/machine-id', 'latin1').catch(() => '');
  return /^[0-9a-f]{32}$/.test(id.trim()) ? id.trim() : undefined;
}

/**
 * When a process began, in clock ticks since the boot. undefined: there is no such process, or only a zombie, which holds nothing open any more.
 * @throws what reading fails with for another reason: it may be there
 */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch((error: NodeJS.ErrnoException) => {
    // Not known, for example because descriptors have run out.
    if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error;
    return undefined;
  });
  // The second field is the command's name in parentheses, which may itself contain spaces and parentheses.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** ext2-4, XFS, btrfs, F2FS, tmpfs: only one kernel mounts them. */
const LOCAL_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994,
]);

/** Another boot may also be another machine, to which this one exports the file system: then it is unknown. */
async function isEarlierBoot(owner: Owner, self: Owner, path: string): Promise<boolean> {
  return owner.machineId !== undefined && owner.machineId === self.machineId && (await isLocal(path));
}

async function isLocal(path: string): Promise<boolean> {
  // f_type is a signed word on some architectures.
  return LOCAL_FILE_SYSTEMS.has((await statfs(path)).type >>> 0);
}

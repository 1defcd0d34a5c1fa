/** Takes away what old migrations have left in a state folder, and nobody needs any more. */
import { once } from 'node:events';
import { lstat, readdir, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { Records } from './records.ts';

/** A source that has not asked for that long has been settled by hand. */
const KEPT_MS = 7 * 24 * 3600_000;
const CONNECT_TIMEOUT_MS = 1_000;

/**
 * Removes records of migrations that were decided and whose QEMU has ended, folders of QEMUs that have ended (`vm-*`) and of streams into them
 * (`in-*`), and what was half written, once they have not changed for seven days. What is undecided, what cannot be read, and what a QEMU listens in
 * stays. Never fails: what cannot be removed is left.
 * @returns the paths that are gone
 */
export async function sweepState(stateFolder: string, now = Date.now()): Promise<string[]> {
  const old = async (path: string): Promise<boolean> => now - (await lstat(path)).mtimeMs > KEPT_MS;
  const swept: string[] = [];
  const take = async (path: string, settled: () => Promise<boolean>): Promise<void> => {
    try {
      if (!(await old(path)) || !(await settled())) return;
      await rm(path, { recursive: true });
      swept.push(path);
    } catch {} // somebody else sweeps too, or it is not ours to remove
  };
  // Folders first: a record says which QEMU is not to be disturbed.
  const open = await openFolders(stateFolder);
  for (const name of await namesIn(stateFolder)) {
    const folder = join(stateFolder, name);
    if (!/^(?:vm|in)-[A-Za-z0-9]{6}$/.test(name) || open.has(folder)) continue;
    await take(folder, async () => !(await changedSince(folder, old)) && (await nobodyListens(folder)));
  }
  const records = new Records(stateFolder);
  for (const id of await records.ids())
    await take(records.pathOf(id), async () => {
      const found = await records.judge(id);
      if (found?.qemu !== 'dead') return false;
      if (found.record.state === 'taken' || found.record.state === 'not-taken') return true;
      // Its source may still ask: decided from now on.
      if (found.word === 'not-taken') await records.write({ ...found.record, state: 'not-taken' });
      return false;
    });
  for (const path of await records.unfinished()) await take(path, async () => true);
  return swept;
}

/** Of QEMUs about which nothing has been decided, or that are there, or cannot be seen. */
async function openFolders(stateFolder: string): Promise<Set<string>> {
  const records = new Records(stateFolder);
  const open = new Set<string>();
  for (const id of await records.ids()) {
    const found = await records.judge(id).catch(() => undefined);
    if (found && found.qemu === 'dead' && found.word !== 'undecided') continue;
    // One that cannot be looked for may be there.
    const record = found?.record ?? (await records.read(id).catch(() => undefined));
    if (record) open.add(dirname(record.qemu.qmp));
  }
  return open;
}

const namesIn = (folder: string): Promise<string[]> => readdir(folder).catch(() => []);

async function changedSince(folder: string, old: (path: string) => Promise<boolean>): Promise<boolean> {
  for (const name of await readdir(folder)) if (!(await old(join(folder, name)))) return true;
  return false;
}

/** A QEMU that has ended takes its socket with it, or leaves one that refuses. Any other answer means that it may be there, in whatever namespace. */
async function nobodyListens(folder: string): Promise<boolean> {
  const socket = createConnection({ path: join(folder, 'qmp.sock') });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    return false;
  } catch (error) {
    return ['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '');
  } finally {
    socket.destroy();
  }
}

/** Whose files an image may consist of: what somebody else can write could make this user send what it never meant to. */
import type { FileHandle } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';

/** Group and others. */
const WRITABLE_BY_OTHERS = 0o022;

/** What the kernel says of an open file or folder. */
export interface Possession {
  readonly uid: number;
  readonly mode: number;
}

/**
 * @param user the effective user of this process
 * @throws MigrationError PERMISSION_DENIED: it belongs to neither the user nor root, or group or others may write it.
 */
export function checkPossession({ uid, mode }: Possession, user: number, shown: string): void {
  if (uid !== user && uid !== 0) {
    const message =
      `${shown} belongs to user ${uid}, this command runs as user ${user}: an image is used only by its owner, or if it is root's. ` +
      'Run the command as that user, or, if you trust what is in it, make it your own (chown)';
    throw new MigrationError('PERMISSION_DENIED', 'image', message, { details: { owner: uid, user } });
  }
  if ((mode & WRITABLE_BY_OTHERS) === 0) return;
  const shownMode = (mode & 0o7777).toString(8).padStart(4, '0');
  const message =
    `${shown} has mode ${shownMode}: others than its owner may write it, so that nobody knows whose VM this is. ` +
    `If you trust what is in it: chmod go-w ${shown}`;
  throw new MigrationError('PERMISSION_DENIED', 'image', message, { details: { mode: shownMode } });
}

/** {@link checkPossession} of what is open, so that nothing can be put in its place afterwards. */
export async function checkTrusted(handle: FileHandle, shown: string): Promise<void> {
  checkPossession(await handle.stat(), process.geteuid?.() ?? -1, shown);
}

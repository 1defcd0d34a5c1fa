/** Folders reached without a detour that a stranger chose. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readlink } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import { codeOf } from './errors.ts';
import { descriptorPath } from './files.ts';

/** open(2), not among Node's constants: only a place in the tree, for which reading need not be allowed. */
const O_PATH = 0o10000000;
const STEP = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** As the kernel has it. */
const MOST_LINKS = 40;

/**
 * Opens a directory, component by component, so that what was looked at is what is opened. A symbolic link on the way counts only if it is
 * this user's or root's: another's could lead to a file of this user that nobody meant.
 * @param path absolute
 * @throws MigrationError PERMISSION_DENIED: a link of another user. Node's errors otherwise.
 */
export async function openTrustedDirectory(path: string): Promise<FileHandle> {
  const rest = partsOf(path);
  let at = await open('/', STEP);
  try {
    for (let links = 0; rest.length > 0; ) {
      const next = join(at, rest.shift() as string);
      const found = await open(next, STEP).catch(unlessLink);
      if (found === undefined) {
        const target = await targetOf(next, path);
        if (++links > MOST_LINKS)
          throw Object.assign(new Error(`too many links: ${path}`), { code: 'ELOOP' });
        rest.unshift(...partsOf(target));
        if (target.startsWith('/')) at = await instead(at, await open('/', STEP));
      } else {
        at = await instead(at, found);
      }
    }
    return await open(join(at, '.'), constants.O_RDONLY | constants.O_DIRECTORY);
  } finally {
    await at.close();
  }
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '');

const join = (directory: FileHandle, name: string): string => `${descriptorPath(directory)}/${name}`;

async function instead(old: FileHandle, next: FileHandle): Promise<FileHandle> {
  await old.close();
  return next;
}

/** O_DIRECTORY with O_NOFOLLOW gives this for a link, as for a file. */
function unlessLink(error: unknown): undefined {
  if (codeOf(error) !== 'ENOTDIR') throw error;
}

/** Where a link leads; ENOTDIR if it is none. */
async function targetOf(link: string, path: string): Promise<string> {
  const before = await lstat(link, { bigint: true });
  if (!before.isSymbolicLink())
    throw Object.assign(new Error(`not a directory: ${path}`), { code: 'ENOTDIR' });
  const target = await readlink(link);
  const after = await lstat(link, { bigint: true });
  const trusted = before.uid === 0n || before.uid === BigInt(process.geteuid?.() ?? -1);
  if (trusted && after.ino === before.ino && after.ctimeNs === before.ctimeNs) return target;
  const message =
    `${path} leads through a symbolic link to ${target} that belongs to user ${after.uid}: only links of this user and of root are ` +
    'followed. Name the place that you mean without that link';
  throw new MigrationError('PERMISSION_DENIED', 'image', message, { details: { owner: Number(after.uid) } });
}

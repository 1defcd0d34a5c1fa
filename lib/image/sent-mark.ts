/** The mark in an image that its VM has been sent away: who finds it does not run or send that VM a second time by mistake. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import { codeOf, imageError } from './errors.ts';
import { createDurable, descriptorPath, openRegular, readBounded, SENT_FILE } from './files.ts';
import { checkTrusted } from './trust.ts';

const FORMAT = 'rdma-migrate sent';
const MAX_MARK_BYTES = 64 << 10;

const word = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'text without control characters');

const schema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(1),
  /**
   * `committed`: the destination has said that it holds the VM. `unconfirmed`: a version 1 destination, which says nothing. `unknown`: it
   * was asked to take over the VM and its answer is missing, or the sender died meanwhile.
   */
  state: z.enum(['committed', 'unconfirmed', 'unknown']),
  migrationId: z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'a UUID in small letters'),
  /** ISO 8601. */
  at: z.iso.datetime(),
  /** Where the destination listened, as the sender named it. */
  to: word(512),
});

/** When, where to and by which migration an image was sent, and what is known of how that ended. */
export type SentMark = Omit<z.output<typeof schema>, 'format' | 'version'>;

/** Which image: its folder, open. */
interface Folder {
  readonly path: string;
  readonly handle: FileHandle;
}

/**
 * undefined: the image has none.
 * @throws MigrationError IMAGE_INVALID: what is there is no mark; PERMISSION_DENIED, IO_ERROR
 */
export async function readSentMark({ path, handle }: Folder): Promise<SentMark | undefined> {
  const shown = join(path, SENT_FILE);
  const file = await openRegular(join(descriptorPath(handle), SENT_FILE), shown).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw imageError(error, `opening ${shown}`);
  });
  if (file === undefined) return undefined;
  try {
    await checkTrusted(file, shown);
    return parseMark(Buffer.from(await readBounded(file, MAX_MARK_BYTES, shown)).toString(), shown);
  } catch (error) {
    throw imageError(error, `reading ${shown}`);
  } finally {
    await file.close();
  }
}

/** @throws MigrationError IMAGE_INVALID */
export function parseMark(text: string, shown: string): SentMark {
  try {
    const { format: _, version: __, ...mark } = schema.parse(JSON.parse(text));
    return mark;
  } catch (cause) {
    const message =
      `${shown} does not say in a way that can be read whether this image was sent before. See where its VM is; then remove that file, ` +
      'or send all the same (--again)';
    throw new MigrationError('IMAGE_INVALID', 'image', message, { cause });
  }
}

/**
 * Puts the mark into the image, durable.
 * @param replace false: one that is there stays
 * @throws MigrationError IMAGE_SENT: there is one. DISK_FULL, PERMISSION_DENIED, IO_ERROR
 */
export async function writeSentMark(
  { path, handle }: Folder,
  mark: SentMark,
  replace: boolean,
): Promise<void> {
  const folder = descriptorPath(handle);
  const [fresh, place] = [join(folder, `.${SENT_FILE}.${randomUUID()}`), join(folder, SENT_FILE)];
  const text = `${JSON.stringify(schema.parse({ format: FORMAT, version: 1, ...mark }), undefined, 2)}\n`;
  try {
    await createDurable(fresh, Buffer.from(text));
    // Unlike a rename, a link is refused where somebody was first.
    if (replace) await rename(fresh, place);
    else await link(fresh, place);
    await handle.sync();
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw imageError(error, `marking ${path} as sent`);
    const message = `another process is sending ${path}, or has just sent it: rdma-migrate image inspect ${path} says where to`;
    throw new MigrationError('IMAGE_SENT', 'image', message, { cause: error });
  } finally {
    await rm(fresh, { force: true }).catch(() => undefined);
  }
}

/** Takes back the mark of that migration; another one stays. */
export async function removeSentMark(folder: Folder, migrationId: string): Promise<void> {
  const mark = await readSentMark(folder);
  if (mark?.migrationId !== migrationId) return;
  await rm(join(descriptorPath(folder.handle), SENT_FILE), { force: true });
  await folder.handle.sync();
}

import { type FileHandle, link, lstat, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { MigrationError } from '../errors.ts';
import { codeOf } from './errors.ts';
import { createFile, syncDirectory } from './files.ts';
import { createPartial, removeDeadPartials, removePartial } from './partial.ts';

const CONTENT = 'stream';

/** File systems without hard links. */
const NO_LINKS: ReadonlySet<string | undefined> = new Set([
  'EPERM',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
]);

/**
 * A file that appears under its name only when it is complete and durable. Until then it is in a partial directory next to
 * it, as images are, so that what a killed process leaves can be recognized and is removed the same way.
 */
export class PartialFile {
  /** For writing. The caller closes it. */
  readonly handle: FileHandle;
  readonly #path: string;
  readonly #partial: string;

  private constructor(path: string, partial: string, handle: FileHandle) {
    this.#path = path;
    this.#partial = partial;
    this.handle = handle;
  }

  /** The caller has checked that nothing has that name. @throws Node's errors */
  static async create(file: string): Promise<PartialFile> {
    const path = resolve(file);
    await removeDeadPartials(path).catch(() => []);
    const partial = await createPartial(path);
    try {
      return new PartialFile(path, partial, await createFile(join(partial, CONTENT)));
    } catch (error) {
      await removePartial(partial);
      throw error;
    }
  }

  /**
   * Makes the content durable and gives it its name.
   * @throws MigrationError INVALID_ARGUMENT: something got that name meanwhile. Node's errors.
   */
  async publish(): Promise<void> {
    await this.handle.sync();
    await this.#name();
    try {
      await syncDirectory(dirname(this.#path));
    } catch (error) {
      await rm(this.#path, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  /** Removes what has not been published. Never throws. */
  async discard(): Promise<void> {
    await removePartial(this.#partial).catch(() => undefined);
  }

  /** link(2) never replaces a file; rename(2) would. */
  async #name(): Promise<void> {
    const content = join(this.#partial, CONTENT);
    try {
      await link(content, this.#path);
    } catch (error) {
      if (codeOf(error) === 'EEXIST') throw fileExists(this.#path);
      if (!NO_LINKS.has(codeOf(error))) throw error;
      if (await lstat(this.#path).catch(() => undefined)) throw fileExists(this.#path);
      await rename(content, this.#path);
    }
  }
}

export function fileExists(path: string): MigrationError {
  const message = `${path} exists and is not overwritten: remove it or name another file`;
  return new MigrationError('INVALID_ARGUMENT', 'image', message);
}

import type { FileHandle } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import type { SourceVm } from '../ram/vm.ts';
import { imageError } from './errors.ts';
import { checkImageOptions } from './option-schema.ts';
import type { DepartureOptions } from './options.ts';
import type { ImageReader } from './reader.ts';
import { readSentMark, removeSentMark, type SentMark, writeSentMark } from './sent-mark.ts';
import { checkTrusted } from './trust.ts';
import { openTrustedDirectory } from './trusted-path.ts';

/**
 * An image that leaves for another host, once: send {@link vm}, within {@link during}. Just before the destination can have
 * the VM a mark is put into the image (`sent.json`), durable, that says when, where to and by which migration; whatever happens then, to this
 * process too, the image says that its VM is elsewhere, or may be.
 *
 * @example
 * await using image = await openImage('./vm1');
 * await using departure = await Departure.of(image, { to: uri });
 * const source = new MigrationSource(departure.vm, uri);
 * await departure.during(() => source.migrate());
 */
export class Departure implements AsyncDisposable {
  /** The image, for a MigrationSource. */
  readonly vm: SourceVm;
  readonly #folder: { readonly path: string; readonly handle: FileHandle };
  readonly #options: DepartureOptions;
  /** What the image said before. */
  readonly #before: SentMark | undefined;
  #marked: SentMark | undefined;
  #marking: Promise<void> = Promise.resolve();

  private constructor(
    image: ImageReader,
    handle: FileHandle,
    before: SentMark | undefined,
    options: DepartureOptions,
  ) {
    const { layout, blocks, ramSection, before: stream } = image;
    this.#folder = { path: image.path, handle };
    this.#before = before;
    this.#options = options;
    this.vm = {
      layout,
      blocks,
      ramSection,
      before: stream,
      after: () => image.after(),
      beforeCommit: (migrationId) => {
        this.#marking = this.#mark(migrationId);
        return this.#marking;
      },
    };
  }

  /** @throws MigrationError IMAGE_SENT: it was sent before, or may have been; IMAGE_INVALID: its mark cannot be read. Neither with `again` */
  static async of(image: ImageReader, options: DepartureOptions): Promise<Departure> {
    checkImageOptions('departure', options);
    const handle = await openTrustedDirectory(image.path).catch((error: unknown) => {
      throw imageError(error, `opening the image ${image.path}`);
    });
    try {
      await checkTrusted(handle, image.path);
      const before = await readSentMark({ path: image.path, handle }).catch((error: unknown) => {
        if (options.again) return undefined;
        throw error;
      });
      if (before !== undefined && !options.again) throw sentBefore(image.path, before);
      return new Departure(image, handle, before, options);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Runs the migration of {@link vm}, and settles what the mark says: by the outcome of the result; that nothing was sent, where the failure says
   * that; and `unknown` stays with COMMIT_UNKNOWN, which says nothing.
   */
  async during<T extends { readonly outcome: 'committed' | 'unconfirmed' }>(
    migrate: () => Promise<T>,
  ): Promise<T> {
    const result = await migrate().catch(async (error: unknown) => {
      const unknown = error instanceof MigrationError && error.code === 'COMMIT_UNKNOWN';
      if (!unknown) await this.#told(() => this.#takeBack());
      throw error;
    });
    const marked = this.#marked;
    // Until then the mark says that the VM may have gone, which is no lie.
    if (marked)
      await this.#told(() => writeSentMark(this.#folder, { ...marked, state: result.outcome }, true));
    return result;
  }

  /** Ends with the folder's descriptor; the image stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#marking.catch(() => {});
    await this.#folder.handle.close();
  }

  async #mark(migrationId: string): Promise<void> {
    const { to, again = false } = this.#options;
    const mark = { state: 'unknown', migrationId, at: new Date().toISOString(), to } as const;
    try {
      this.#marked = mark; // first: it may be there though writing it fails in the end
      await writeSentMark(this.#folder, mark, again);
    } catch (error) {
      // An image that its sender may only read is sent all the same.
      if (!(error instanceof MigrationError) || error.code !== 'PERMISSION_DENIED') throw error;
      this.#marked = undefined;
      this.#options.onUnmarked?.(error);
    }
  }

  async #takeBack(): Promise<void> {
    await this.#marking.catch(() => {}); // the migration may have failed before that has ended
    if (this.#marked === undefined) return;
    if (this.#before !== undefined) await writeSentMark(this.#folder, this.#before, true);
    else await removeSentMark(this.#folder, this.#marked.migrationId);
  }

  /** What has become of the VM is known already: a mark that cannot be changed is no failure of that. */
  async #told(work: () => Promise<void>): Promise<void> {
    await work().catch((error: unknown) => {
      this.#options.onUnmarked?.(imageError(error, `marking ${this.#folder.path}`));
    });
  }
}

const KNOWN: Readonly<Record<SentMark['state'], string>> = {
  committed: 'and its destination has confirmed that it holds the VM, which must run nowhere else',
  unconfirmed: 'to a version 1 destination, which confirms nothing and most likely has the VM: look there',
  unknown:
    'and it is not known whether the destination has the VM: settle that first (docs/errors.md, exit code 8)',
};

function sentBefore(path: string, mark: SentMark): MigrationError {
  const { state, at, to, migrationId } = mark;
  const message =
    `${path} was sent on ${at} to ${to} (migration ${migrationId}), ${KNOWN[state]}. To send it all the same, as a second VM or because the ` +
    'first is gone: --again (again)';
  return new MigrationError('IMAGE_SENT', 'image', message, { details: { ...mark } });
}

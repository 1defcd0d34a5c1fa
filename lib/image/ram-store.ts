import { lstat, rm } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { MigrationError } from '../errors.ts';
import type { NativeMemory } from '../native/memory.ts';
import type { RamBlock, RamBlockLayout } from '../ram/vm.ts';
import { takeRam } from './abandoned.ts';
import { during } from './errors.ts';
import { descriptorPath, openRegular, ramFileName, syncDirectory } from './files.ts';
import type { ManifestBlock } from './manifest.ts';
import { recordOutsideFiles } from './outside-files.ts';
import { checkRamFits, contentOfStream } from './space.ts';

/** Paths by block name. */
export type RamPaths = Readonly<Record<string, string>>;

/** Where the RAM of an image goes, if not into its folder. */
export interface RamPlacement {
  /** Blocks whose file is created at this absolute path, which must not exist, instead of inside the image. */
  readonly ramFiles?: RamPaths | undefined;
  /** Blocks that live in an existing file of that length (x-ignore-shared): mapped in place, never written or removed. */
  readonly sharedRam?: RamPaths | undefined;
  /** Length of the plain QEMU stream that it comes in, if known: one that does not fit is refused at once. */
  readonly streamBytes?: bigint | undefined;
}

/** `file`: the name within the image, of a path inside it. */
interface Place {
  readonly path: string;
  readonly file?: string;
}

interface StoredBlock extends RamBlock {
  readonly where: { file: string } | { external: { path: string; inode: bigint } };
}

/** The RAM files of an image that is being written. */
export class RamStore {
  readonly #directory: string;
  readonly #placement: RamPlacement;
  readonly #native: NativeMemory;
  readonly #stored: StoredBlock[] = [];
  /** Files outside the image that this store created and must remove if the image is not completed. */
  readonly #created: string[] = [];

  constructor(directory: string, placement: RamPlacement, native: NativeMemory) {
    this.#directory = directory;
    this.#placement = placement;
    this.#native = native;
    checkPaths(placement);
  }

  get blocks(): readonly RamBlock[] {
    return this.#stored;
  }

  /** Creates and maps a file for each block, or takes what `earlier` has in that place; what was created before a failure stays until {@link removeFiles} and {@link close}. */
  async allocate(layouts: readonly RamBlockLayout[], earlier?: string): Promise<void> {
    const { ramFiles = {}, sharedRam = {} } = this.#placement;
    checkNames([...Object.keys(ramFiles), ...Object.keys(sharedRam)], layouts);
    await this.#checkSpace(layouts);
    for (const [index, layout] of layouts.entries()) {
      const shared = pathOf(sharedRam, layout.name);
      const outside = pathOf(ramFiles, layout.name);
      const file = ramFileName(index);
      if (shared !== undefined) await this.#adopt(layout, shared);
      else if (outside !== undefined) await this.#create(layout, { path: outside });
      else await this.#create(layout, { path: join(this.#directory, file), file }, earlier);
    }
  }

  async sync(): Promise<void> {
    for (const block of this.#stored) {
      if (pathOf(this.#placement.sharedRam, block.name) !== undefined) continue;
      await during(`writing the RAM block ${block.name} to disk`, () => block.mapping.sync());
    }
    for (const path of this.#created) await syncDirectory(dirname(path));
  }

  /** What the manifest says of the blocks; if asked for, with digests of their content, which reads all of it. */
  async describe(withDigests: boolean): Promise<ManifestBlock[]> {
    const described: ManifestBlock[] = [];
    for (const { name, length, guestAddress, where, mapping } of this.#stored) {
      const address = guestAddress === undefined ? {} : { guestAddress };
      const digest = withDigests ? { digest: await mapping.digest() } : {};
      described.push({ name, length, ...where, ...address, ...digest });
    }
    return described;
  }

  async close(): Promise<void> {
    await Promise.all(this.#stored.map((block) => block.mapping.close()));
  }

  /** Removes the files outside the image; those inside go with its directory. Never throws. */
  async removeFiles(): Promise<void> {
    for (const path of this.#created.splice(0)) await rm(path, { force: true }).catch(() => undefined);
  }

  async #checkSpace(layouts: readonly RamBlockLayout[]): Promise<void> {
    const { ramFiles, sharedRam, streamBytes } = this.#placement;
    const shares = layouts
      .filter(({ name }) => pathOf(sharedRam, name) === undefined)
      .map(({ name, length }) => {
        const outside = pathOf(ramFiles, name);
        return { directory: outside === undefined ? this.#directory : dirname(outside), ramBytes: length };
      });
    const ramBytes = shares.reduce((sum, share) => sum + share.ramBytes, 0n);
    await checkRamFits(
      shares,
      streamBytes === undefined ? undefined : contentOfStream(streamBytes, ramBytes),
    );
  }

  async #create(layout: RamBlockLayout, { path, file }: Place, earlier?: string): Promise<void> {
    const { name, length } = layout;
    if (file === undefined) await refuseExisting(path, name);
    await during(`creating ${path} for ${length} bytes of the RAM block ${name}`, async () => {
      const taken =
        file !== undefined && earlier !== undefined && (await takeRam(earlier, file, path, length));
      const mapping = await this.#native.mapFile({ path, length, mode: taken ? 'write' : 'create' });
      if (file === undefined) this.#created.push(path);
      const where = file === undefined ? { external: { path, inode: await inodeOf(path) } } : { file };
      this.#stored.push({ ...layout, mapping, where });
      if (file === undefined) await recordOutsideFiles(this.#directory, this.#created);
    });
  }

  async #adopt(layout: RamBlockLayout, path: string): Promise<void> {
    const { name, length } = layout;
    await during(`mapping ${path} as the RAM block ${name}`, async () => {
      const handle = await openRegular(path);
      try {
        const { size, ino } = await handle.stat({ bigint: true });
        if (size < length) throw tooShort(path, size, layout);
        const mapping = await this.#native.mapFile({ path: descriptorPath(handle), length, mode: 'read' });
        this.#stored.push({ ...layout, mapping, where: { external: { path, inode: ino } } });
      } finally {
        await handle.close();
      }
    });
  }
}

const inodeOf = async (path: string): Promise<bigint> => (await lstat(path, { bigint: true })).ino;

/** Own properties only: a block may be called `constructor`. */
function pathOf(paths: RamPaths | undefined, name: string): string | undefined {
  return paths !== undefined && Object.hasOwn(paths, name) ? paths[name] : undefined;
}

function checkPaths({ ramFiles = {}, sharedRam = {} }: RamPlacement): void {
  const used = new Set<string>();
  for (const [name, path] of [...Object.entries(ramFiles), ...Object.entries(sharedRam)]) {
    if (!isAbsolute(path)) {
      throw invalidArgument(
        `the file of RAM block ${name}: expected an absolute path but received '${path}'`,
      );
    }
    if (used.has(path)) throw invalidArgument(`two RAM blocks are to be in ${path}: name one file for each`);
    used.add(path);
  }
  const both = Object.keys(ramFiles).find((name) => Object.hasOwn(sharedRam, name));
  if (both === undefined) return;
  throw invalidArgument(
    `RAM block ${both} is in ramFiles and in sharedRam: a file is either created or exists already`,
  );
}

function checkNames(named: readonly string[], layouts: readonly RamBlockLayout[]): void {
  const known = layouts.map(({ name }) => name);
  const unknown = named.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw invalidArgument(`the VM has no RAM block '${unknown}' to place: its blocks are ${known.join(', ')}`);
}

function invalidArgument(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'image', message);
}

async function refuseExisting(path: string, name: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats === undefined) return;
  const message = `${path}, to be made for the RAM block ${name}, exists: remove it or name another path`;
  throw new MigrationError('IMAGE_EXISTS', 'image', message);
}

function tooShort(path: string, size: bigint, { name, length }: RamBlockLayout): MigrationError {
  const message = `${path} has ${size} bytes, the RAM block ${name} has ${length}: name the file that the VM maps`;
  return new MigrationError('BLOCK_MISMATCH', 'image', message, { details: { size, length } });
}

import type { FileHandle } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import { DeviceStateCheck, type VmDescription } from '../protocol/tail.ts';
import { during } from './errors.ts';
import type { ManifestBlock, Provenance } from './manifest.ts';
import { checkImageOptions } from './option-schema.ts';
import type { InspectOptions } from './options.ts';
import type { RamPaths } from './ram-store.ts';
import { readSentMark, type SentMark } from './sent-mark.ts';
import { type ImageDirectory, openImageDirectory, openMember, openRamFile } from './store.ts';

const CHUNK = 256 << 10;
/** The unit of st_blocks, regardless of the file system's block size. */
const ST_BLOCK = 512n;

/** A RAM block of an image. Lengths are bytes. */
export interface BlockInspection {
  readonly name: string;
  readonly length: bigint;
  /** Bytes that the file takes on the disk; undefined: see `problem`, or it is external and was not named, so not looked at. */
  readonly allocated: bigint | undefined;
  /** Name inside the image, or path outside it: as named by the caller, or where the manifest says it was made. */
  readonly file: string;
  readonly external: boolean;
  readonly guestAddress?: bigint;
  readonly digest?: string;
  /** Why the file cannot be used. */
  readonly problem?: string;
}

/** What an image holds. All lengths in bytes. */
export interface ImageInspection {
  readonly path: string;
  readonly machine: string;
  readonly pageSize: number;
  /** The program that wrote it, such as `rdma-migrate 0.1.0`. */
  readonly tool: string;
  /** ISO 8601. */
  readonly created: string;
  readonly provenance: Provenance;
  /** When and where to it was sent; absent: it never was. `problem`: its mark cannot be read. */
  readonly sent?: SentMark | { readonly problem: string };
  readonly ramBytes: bigint;
  readonly allocatedBytes: bigint;
  readonly blocks: readonly BlockInspection[];
  readonly deviceStateBytes: bigint;
  /** From the VMDESCRIPTION at the end of the device state, in its order; undefined if there is none. */
  readonly devices: VmDescription['devices'] | undefined;
}

/**
 * Looks at the image at `path` without mapping its RAM. A RAM file that is missing or damaged is a `problem` of its block.
 * @throws MigrationError IMAGE_NOT_FOUND, IMAGE_INVALID, PERMISSION_DENIED, IO_ERROR.
 */
export async function inspect(path: string, options: InspectOptions = {}): Promise<ImageInspection> {
  checkImageOptions('inspect', options);
  const image = await openImageDirectory(path);
  try {
    const { machine, pageSize, tool, created, provenance, after } = image.manifest;
    const blocks = await Promise.all(
      image.manifest.blocks.map((block) => inspectBlock(image, block, options.ramFiles)),
    );
    const ramBytes = blocks.reduce((sum, { length }) => sum + length, 0n);
    const allocatedBytes = blocks.reduce((sum, { allocated }) => sum + (allocated ?? 0n), 0n);
    const devices = await readDevices(image);
    const sent = await sentOf(image);
    const about = { path: image.path, machine, pageSize, tool, created, provenance, ...(sent && { sent }) };
    return { ...about, ramBytes, allocatedBytes, blocks, deviceStateBytes: after.length, devices };
  } finally {
    await image.handle.close();
  }
}

/** The same as JSON text: lengths and addresses are decimal strings, as in the manifest. */
export function inspectionToJson(inspection: ImageInspection): string {
  return JSON.stringify(inspection, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
}

async function sentOf(image: ImageDirectory): Promise<ImageInspection['sent']> {
  try {
    return await readSentMark(image);
  } catch (error) {
    if (!(error instanceof MigrationError)) throw error;
    return { problem: error.message };
  }
}

async function inspectBlock(
  image: ImageDirectory,
  block: ManifestBlock,
  named: RamPaths = {},
): Promise<BlockInspection> {
  const { name, length, guestAddress, digest, file, external } = block;
  const given = Object.hasOwn(named, name) ? named[name] : undefined;
  const about = {
    name,
    length,
    file: given ?? file ?? external?.path ?? '',
    external: file === undefined || given !== undefined,
    ...(guestAddress !== undefined && { guestAddress }),
    ...(digest !== undefined && { digest }),
  };
  if (file === undefined && given === undefined) return { ...about, allocated: undefined };
  try {
    return { ...about, allocated: await allocatedOf(await openRamFile(image, block, named)) };
  } catch (error) {
    if (!(error instanceof MigrationError)) throw error;
    return { ...about, allocated: undefined, problem: error.message };
  }
}

async function allocatedOf(handle: FileHandle): Promise<bigint> {
  try {
    return (await handle.stat({ bigint: true })).blocks * ST_BLOCK;
  } finally {
    await handle.close();
  }
}

async function readDevices(image: ImageDirectory): Promise<VmDescription['devices'] | undefined> {
  const { file, length } = image.manifest.after;
  const handle = await openMember(image, file, length);
  const check = new DeviceStateCheck();
  try {
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const { bytesRead } = await during(`reading ${file} of ${image.path}`, () =>
        handle.read(buffer, 0, CHUNK),
      );
      if (bytesRead === 0) break;
      check.push(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
  const result = check.result();
  return result.complete ? result.description.devices : undefined;
}

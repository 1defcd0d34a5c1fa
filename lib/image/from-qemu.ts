import { imageError, throwIfAborted } from './errors.ts';
import type { LibvirtSave } from './libvirt-save.ts';
import { loadNative } from './load-native.ts';
import { checkImageOptions } from './option-schema.ts';
import type { FromQemuOptions } from './options.ts';
import { type QemuStreamFacts, QemuStreamImport } from './qemu-stream-import.ts';
import { unwrapped } from './stream-container.ts';
import { StreamInput } from './stream-input.ts';
import { ImageWriter } from './writer.ts';

export interface FromQemuResult extends QemuStreamFacts {
  /** Absolute path of the image. */
  readonly path: string;
  /** Of a file of `virsh save`: the VM was running when it was saved. In the image it is paused. */
  readonly savedWhileRunning?: boolean;
  /** Partial directories of dead processes that were removed as well. */
  readonly removedPartials: readonly string[];
}

/**
 * Reads a plain QEMU stream (QMP `migrate exec:cat>FILE`), or a file of libvirt's `virsh save` that is not compressed, into a new image at
 * `imagePath`. The input may be a pipe; memory used
 * beyond the mapped RAM is a few chunks of it. When it fails, nothing is left and a Readable is destroyed.
 * @throws MigrationError IMAGE_EXISTS; STREAM_ERROR: not a stream that can be read; STREAM_TRUNCATED: it ends too early, lacks pages that
 *   nothing allows to be left out, or has no VMDESCRIPTION (see `acceptUnproven`); INVALID_ARGUMENT: `sharedRam` is missing or does not match; BLOCK_MISMATCH; DISK_FULL,
 *   OUT_OF_MEMORY, PERMISSION_DENIED, IO_ERROR; CANCELLED.
 */
export async function fromQemu(
  input: AsyncIterable<Uint8Array>,
  imagePath: string,
  options: FromQemuOptions = {},
): Promise<FromQemuResult> {
  checkImageOptions('fromQemu', options);
  const action = `reading a QEMU stream into ${imagePath}`;
  const source = new StreamInput(input, options.signal, action);
  try {
    throwIfAborted(options.signal, action);
    return await importStream(source.chunks(), imagePath, options);
  } catch (error) {
    throw imageError(error, action);
  } finally {
    source.stop();
  }
}

async function importStream(
  chunks: AsyncIterable<Uint8Array>,
  imagePath: string,
  options: FromQemuOptions,
): Promise<FromQemuResult> {
  const native = await loadNative();
  const { ramFiles, sharedRam, streamBytes, digests = false } = options;
  const provenance = { origin: 'qemu-stream' } as const;
  await using writer = await ImageWriter.open(imagePath, {
    digests,
    ramFiles,
    sharedRam,
    streamBytes,
    provenance,
  });
  const stream = new QemuStreamImport(writer, native, {
    shared: Object.keys(sharedRam ?? {}),
    acceptUnproven: options.acceptUnproven ?? false,
    deviceState: () => writer.deviceState(),
    onProgress: options.onProgress,
  });
  let save: LibvirtSave | undefined;
  const bare = unwrapped(chunks, (found) => {
    save = found;
  });
  for await (const chunk of bare) await stream.push(chunk);
  const facts = stream.finish();
  if (facts.coverage.state !== 'whole') writer.setProvenance({ coverage: facts.coverage.state });
  await commit(writer, options.signal);
  const saved = save && { savedWhileRunning: save.wasRunning };
  return { ...facts, ...saved, path: writer.path, removedPartials: writer.removedPartials };
}

/** Writing gigabytes to the disk takes time: the signal ends that too. */
async function commit(writer: ImageWriter, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal, `completing ${writer.path}`);
  const onAbort = (): void => void writer.abort();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await writer.commit();
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

import type { Writable } from 'node:stream';
import { imageError, throwIfAborted } from './errors.ts';
import { checkImageOptions } from './option-schema.ts';
import type { ToQemuOptions } from './options.ts';
import { openImage } from './reader.ts';
import { type WriteQemuStreamResult, writeQemuStream } from './write-qemu-stream.ts';

/** What was written. */
export type ToQemuResult = WriteQemuStreamResult;

/**
 * Writes the image at `imagePath` as a plain QEMU stream, which a stock QEMU loads with `-incoming "exec:cat FILE"`. The
 * output is not ended: its owner does that. Memory used beyond the mapped RAM: some MiB.
 * @throws MigrationError what {@link openImage} and {@link writeQemuStream} throw
 */
export async function toQemu(
  imagePath: string,
  output: Writable,
  options: ToQemuOptions = {},
): Promise<ToQemuResult> {
  checkImageOptions('toQemu', options);
  const { ramFiles, ...streamOptions } = options;
  const { signal } = options;
  const action = `writing ${imagePath} as a QEMU stream`;
  throwIfAborted(signal, action);
  await using image = await openImage(imagePath, {
    ...(signal && { signal }),
    ...(ramFiles && { ramFiles }),
  });
  try {
    return await writeQemuStream(image, output, streamOptions);
  } catch (error) {
    throw imageError(error, action);
  }
}

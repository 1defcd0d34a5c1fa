import { toQemu } from '../image/index.ts';
import { formatBytes } from './format.ts';
import { imageProgress } from './image-view.ts';
import type { ToQemuOptions } from './program.ts';
import type { CommandContext } from './run.ts';
import { withOutputFile } from './stream-file.ts';

/** `rdma-migrate image to-qemu`: writes an image as a plain QEMU stream. */
export async function imageToQemu(
  { reporter, signal }: CommandContext,
  image: string,
  file: string,
  { ignoreShared = {}, ramFile }: ToQemuOptions,
): Promise<void> {
  const known = Object.entries(ignoreShared).filter(
    (entry): entry is [string, bigint] => entry[1] !== undefined,
  );
  const onWaiting = (): void => reporter.notice(`${file} has no reader yet: waiting for one`);
  const result = await withOutputFile(file, { signal, onWaiting }, (output) =>
    toQemu(image, output, {
      signal,
      onProgress: imageProgress(reporter),
      ignoreShared: Object.keys(ignoreShared),
      guestAddresses: Object.fromEntries(known),
      ...(ramFile && { ramFiles: ramFile }),
    }),
  );
  const { streamBytes, ramBytes } = result;
  reporter.completed({ ...result, image, file }, [
    `wrote ${image} to ${file === '-' ? 'stdout' : file}: ${formatBytes(streamBytes)}, with ${formatBytes(ramBytes)} of RAM in it`,
  ]);
}

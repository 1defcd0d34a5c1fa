import { fromQemu } from '../image/index.ts';
import { coverageLine } from './coverage-view.ts';
import { formatBytes } from './format.ts';
import { noticeLeftovers } from './image-clean.ts';
import { imageProgress } from './image-view.ts';
import type { FromQemuOptions } from './program.ts';
import type { CommandContext } from './run.ts';
import { lengthOf, openInput } from './stream-file.ts';

/** `rdma-migrate image from-qemu`: reads a plain QEMU stream into a new image. */
export async function imageFromQemu(
  context: CommandContext,
  file: string,
  image: string,
  { ramFile, sharedRam, acceptUnproven = false, digests }: FromQemuOptions,
): Promise<void> {
  const { reporter, signal } = context;
  context.onFailure(`nothing of the stream was kept: there is no image ${image}`);
  await noticeLeftovers(reporter, image);
  const length = await lengthOf(file);
  const result = await fromQemu(await openInput(file), image, {
    signal,
    ...(length !== undefined && { streamBytes: length }),
    onProgress: imageProgress(reporter),
    acceptUnproven,
    digests,
    ...(ramFile && { ramFiles: ramFile }),
    ...(sharedRam && { sharedRam }),
  });
  for (const path of result.removedPartials) reporter.notice(`removed ${path}, left by a receive that died`);
  const { machine, ramBytes, streamBytes, completeness, coverage } = result;
  reporter.completed(result, [
    `made ${image}: ${machine}, ${formatBytes(ramBytes)} of RAM out of a stream of ${formatBytes(streamBytes)}`,
    coverageLine(coverage, 'the stream'),
    COMPLETENESS[completeness],
    ...(result.savedWhileRunning ? [RAN] : []),
  ]);
}

const RAN = 'it ran when libvirt saved it, and stands still in the image: let it go on with cont';

const COMPLETENESS = {
  commit: 'the source confirmed what it sent',
  vmdescription: 'its device state is whole by the description of the VM at the end of the stream',
  none: 'nothing proves that the stream was whole: it was taken because of --accept-unproven',
} as const;

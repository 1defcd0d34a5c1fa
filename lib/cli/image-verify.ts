import { MigrationError } from '../errors.ts';
import { type ImageVerification, openImage, type VerifiedPart } from '../image/index.ts';
import { formatBytes } from './format.ts';
import { imageProgress } from './image-view.ts';
import type { VerifyOptions } from './program.ts';
import type { CommandContext } from './run.ts';

/** `rdma-migrate image verify`: whether an image is still what was received. */
export async function imageVerify(
  { reporter, signal }: CommandContext,
  image: string,
  { ramFile }: VerifyOptions,
): Promise<void> {
  await using reader = await openImage(image, { signal, ...(ramFile && { ramFiles: ramFile }) });
  const found = await reader.verify({ signal, onProgress: imageProgress(reporter) });
  if (found.state !== 'same') throw unverified(found);
  const { created, tool } = reader.manifest;
  reporter.completed(found, [
    `verified ${image}: ${sizeOf(found.parts)}, all of it as it was on ${created} when ${tool} wrote it`,
  ]);
}

function unverified({ path, parts, state }: ImageVerification): MigrationError {
  const without = parts.filter(({ compared }) => !compared);
  const names = without.map(({ name }) => name).join(', ');
  const same = parts.filter(({ compared }) => compared);
  const message =
    state === 'not-compared'
      ? `${path} can be read, and NOTHING of it was compared: no digests were kept when it was written (--no-digests, or an older release)`
      : `${path} is NOT verified: ${sizeOf(same)} are what was received; no digest was kept of ${names}`;
  const details = { state, same: same.map(({ name }) => name).join(', '), notCompared: names };
  return new MigrationError('IMAGE_UNVERIFIED', 'image', message, { details });
}

const sizeOf = (parts: readonly VerifiedPart[]): string =>
  formatBytes(parts.reduce((sum, { bytes }) => sum + bytes, 0n));

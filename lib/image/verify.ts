/** Whether an image is still what was received: everything is read, and compared with the digests in its manifest. */
import { createHash } from 'node:crypto';
import { raceAbort } from '../abort.ts';
import { MigrationError } from '../errors.ts';
import type { RamBlock } from '../ram/vm.ts';
import { cancelled, imageError, throwIfAborted } from './errors.ts';
import type { Manifest } from './manifest.ts';
import type { VerifyOptions } from './options.ts';
import type { ImageProgress } from './progress.ts';

/** Milliseconds between two reports. */
const REPORT_MS = 250;

/** A part of an image that was read again and compared. */
export interface VerifiedPart {
  /** A RAM block's name, or a file of the stream around RAM. */
  readonly name: string;
  readonly kind: 'ram' | 'stream';
  readonly bytes: bigint;
  /** False: the manifest has no digest of it. It was read, and that is all. */
  readonly compared: boolean;
}

/** What could be compared was the same: what differs is an error. */
export interface ImageVerification {
  /** Absolute path of the image. */
  readonly path: string;
  /** `same`: all of it was compared. `partly`: some has no digest. `not-compared`: nothing has one. */
  readonly state: 'same' | 'partly' | 'not-compared';
  readonly parts: readonly VerifiedPart[];
}

/** What is compared: an open image. */
interface Verifiable {
  readonly path: string;
  readonly manifest: Manifest;
  readonly blocks: readonly RamBlock[];
  readonly before: Uint8Array;
  after(): AsyncIterable<Uint8Array>;
}

type Compared = VerifiedPart & { readonly differs: boolean };

/** As the manifest has it of `before` and `after`. */
export class StreamDigest {
  readonly #hash = createHash('sha256');

  push(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    return this;
  }

  /** Once, at the end. */
  text(): string {
    return `sha256:${this.#hash.digest('hex')}`;
  }
}

/** @throws MigrationError IMAGE_INVALID: something is not what was received; IO_ERROR, CANCELLED */
export async function verifyImage(image: Verifiable, options: VerifyOptions): Promise<ImageVerification> {
  const { path, manifest, before } = image;
  const { signal } = options;
  const action = `verifying ${path}`;
  const ram: Compared[] = [];
  const progress = new Progress(image, options.onProgress);
  for (const block of image.blocks) {
    throwIfAborted(signal, action);
    const digest = await progress
      .during(block, () => raceAbort(block.mapping.digest(), signal, () => cancelled(action, signal)))
      .catch((error: unknown) => {
        throw imageError(error, `reading the RAM block ${block.name} of ${path}`);
      });
    const wanted = manifest.blocks.find(({ name }) => name === block.name)?.digest;
    ram.push(compared({ name: block.name, kind: 'ram', bytes: block.length }, digest, wanted));
  }
  progress.deviceState();
  const after = new StreamDigest();
  for await (const piece of image.after()) {
    throwIfAborted(signal, action);
    after.push(piece);
  }
  const stream = [
    streamPart(manifest.before, new StreamDigest().push(before)),
    streamPart(manifest.after, after),
  ];
  return outcome(path, [...ram, ...stream]);
}

function streamPart({ file, length, digest }: Manifest['before'], found: StreamDigest): Compared {
  return compared({ name: file, kind: 'stream', bytes: length }, found.text(), digest);
}

function compared(part: Omit<VerifiedPart, 'compared'>, found: string, wanted: string | undefined): Compared {
  return { ...part, compared: wanted !== undefined, differs: wanted !== undefined && wanted !== found };
}

function outcome(path: string, found: readonly Compared[]): ImageVerification {
  const wrong = found.filter(({ differs }) => differs).map(({ name }) => name);
  if (wrong.length > 0) {
    const message = `${path} is damaged: the content of ${wrong.join(', ')} is not what was received. Receive or convert the VM again`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { details: { differs: wrong.join(', ') } });
  }
  const parts = found.map(({ differs: _, ...part }) => part);
  const all = parts.every(({ compared }) => compared);
  const some = parts.some(({ compared }) => compared);
  return { path, state: all ? 'same' : some ? 'partly' : 'not-compared', parts };
}

/** How far reading has come: native code says it while it works. */
class Progress {
  readonly #report: VerifyOptions['onProgress'];
  readonly #total: bigint;
  #done = 0n;

  constructor({ blocks }: Verifiable, report: VerifyOptions['onProgress']) {
    this.#report = report;
    this.#total = blocks.reduce((sum, { length }) => sum + length, 0n);
  }

  async during<T>({ mapping, length }: RamBlock, work: () => Promise<T>): Promise<T> {
    const running = work();
    const tell = (): void => this.#tell('ram', this.#done + mapping.digested);
    const timer = setInterval(tell, REPORT_MS);
    try {
      return await running;
    } finally {
      clearInterval(timer);
      this.#done += length;
      this.#tell('ram', this.#done);
    }
  }

  deviceState(): void {
    this.#tell('device-state', this.#done);
  }

  #tell(phase: ImageProgress['phase'], done: bigint): void {
    this.#report?.({ phase, done, total: this.#total, streamBytes: 0n });
  }
}

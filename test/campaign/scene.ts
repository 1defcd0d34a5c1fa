/** What a campaign works on: one small image, and a folder for each case. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fromQemu, openImage } from 'rdma-migrate';
import { syntheticStream } from '../../examples/synthetic/vm.ts';
import type { There } from './judge.ts';

const MIB = 1n << 20n;
const BLOCKS = [
  { name: 'pc.ram', length: 12n * MIB, fill: 'mixed' },
  { name: 'rom', length: MIB, fill: 'random' },
] as const;

export class Scene implements AsyncDisposable {
  readonly #root: string;
  readonly image: string;
  #fingerprint = '';
  #cases = 0;
  /** Files of the image except its manifest, which says how a VM came. */
  #files: readonly string[] = [];

  private constructor(root: string) {
    this.#root = root;
    this.image = join(root, 'vm');
  }

  static async create(): Promise<Scene> {
    const scene = new Scene(await mkdtemp(join(tmpdir(), 'rdma-migrate-campaign-')));
    await fromQemu(syntheticStream(BLOCKS), scene.image);
    await using image = await openImage(scene.image);
    const ram = image.manifest.blocks.flatMap(({ file }) => file ?? []);
    scene.#files = ['before.bin', 'after.bin', ...ram];
    scene.#fingerprint = await scene.#digest();
    return scene;
  }

  get blocks(): readonly { readonly name: string; readonly length: bigint }[] {
    return BLOCKS;
  }

  /** The path of a block's file in an image. */
  blockFile(image: string, index: number): string {
    return join(image, this.#files[2 + index] as string);
  }

  /** An empty folder. */
  async folder(): Promise<string> {
    const path = join(this.#root, `case-${this.#cases++}`);
    await mkdir(path);
    return path;
  }

  /** Looks at what a case has left; `same` compares the image that is there with what was sent. */
  async look(folder: string, same: (image: string) => Promise<boolean>): Promise<There> {
    const names = await readdir(folder);
    const image = join(folder, 'vm');
    const whole = names.includes('vm') && (await opens(image));
    const kept = whole
      ? (await same(image))
        ? 'whole'
        : 'different'
      : names.includes('vm')
        ? 'different'
        : 'none';
    return {
      image: kept,
      partial: names.some((name) => name !== 'vm'),
      sourceUntouched: (await this.#digest()) === this.#fingerprint,
    };
  }

  /** Whether an image is the one that was sent, as judged by another program. */
  async isTheSame(image: string): Promise<boolean> {
    for (const file of this.#files) {
      const same = await promisify(execFile)('cmp', ['-s', join(this.image, file), join(image, file)]).then(
        () => true,
        () => false,
      );
      if (!same) return false;
    }
    return true;
  }

  async #digest(): Promise<string> {
    const digest = createHash('sha256');
    // The mark that it was sent is the one thing that a source writes.
    const names = (await readdir(this.image)).filter((name) => !name.includes('sent.json'));
    for (const name of names.sort()) {
      digest.update(name).update(await readFile(join(this.image, name)));
    }
    return digest.digest('hex');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#root, { recursive: true, force: true });
  }
}

/** Whether an image declares itself to be one. */
async function opens(image: string): Promise<boolean> {
  try {
    await (await openImage(image)).close();
    return true;
  } catch {
    return false;
  }
}

/** An image's folder with a damaged manifest and damaged files. */
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ErrorCode } from '../../../lib/errors.ts';
import { fromQemu } from '../../../lib/image/from-qemu.ts';
import { type ImageReader, openImage } from '../../../lib/image/reader.ts';
import { Random } from '../../campaign/random.ts';
import { Finding, triedLater } from '../judge.ts';
import { mutate } from '../mutate.ts';
import { streamParts } from '../streams.ts';
import type { Hit, Target } from '../target.ts';
import { mutateTree, type Tree } from '../values.ts';

const CODES: readonly ErrorCode[] = [
  'IMAGE_INVALID',
  'IMAGE_NOT_FOUND',
  'PERMISSION_DENIED',
  'OUT_OF_MEMORY',
  'IO_ERROR',
];

let root = '';
let good = new Map<string, Buffer>();

export const image: Target = {
  name: 'image',
  feeds: 'openImage with folders whose manifest or files are damaged, cut, missing, or links',
  reaches: ['taken', 'IMAGE_INVALID'],
  shortRun: 200,
  async open() {
    root = await mkdtemp(join(tmpdir(), 'rdma-migrate-fuzz-'));
    await fromQemu(whole(), join(root, 'good'));
    good = await contents(join(root, 'good'));
    return { [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
  },
  async play(random, hit) {
    const path = join(root, 'case');
    await rm(path, { recursive: true, force: true });
    await mkdir(path);
    for (const [name, bytes] of good) await writeFile(join(path, name), bytes);
    await damage(random, path);
    const before = (await readdir('/proc/self/fd')).length;
    const image = await triedLater(CODES, hit, () => openImage(path));
    if (image) await read(image, hit);
    const left = (await readdir('/proc/self/fd')).length - before;
    if (left > 0) throw new Finding(`${left} descriptors are left open`);
  },
};

async function* whole(): AsyncGenerator<Uint8Array> {
  // No random case: of all that streamParts makes, the first without shared memory.
  for (let seed = 0; ; seed++) {
    const bytes = Buffer.concat(streamParts(new Random(seed), 'pages'));
    if (bytes.includes('x-ignore-shared')) continue;
    yield bytes;
    return;
  }
}

async function contents(path: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(path)).sort();
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(path, name))] as const)),
  );
}

async function read(image: ImageReader, hit: Hit): Promise<void> {
  hit('taken');
  await triedLater(CODES, hit, async () => {
    let bytes = 0;
    for await (const piece of image.after()) bytes += piece.length;
    if (bytes !== Number(image.manifest.after.length)) throw new Finding(`${bytes} bytes of device state`);
  });
  await triedLater(CODES, hit, () => image.verify());
  await image.close();
}

async function damage(random: Random, path: string): Promise<void> {
  const names = [...good.keys()];
  const file = join(path, random.pick(names));
  switch (random.below(8)) {
    case 0:
      return rm(file);
    case 1:
      return truncate(file, random.below(30_000));
    case 2:
      return writeFile(file, mutate(random, await readFile(file)));
    case 3:
      await rename(file, `${file}.x`);
      return symlink(random.pick([`${file}.x`, '/etc/passwd', '/dev/zero', file, '/nowhere']), file);
    case 4:
      await rm(file);
      await mkdir(file);
      return;
    case 5:
      return chmod(file, 0);
    default: {
      const manifest = join(path, 'manifest.json');
      const tree = JSON.parse(await readFile(manifest, 'utf8')) as Tree;
      return writeFile(manifest, JSON.stringify(mutateTree(random, tree)));
    }
  }
}

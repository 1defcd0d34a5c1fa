/** A destination that has no room, or no right, to keep what it receives. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ImageReader,
  ImageWriter,
  MigrationDestination,
  MigrationSource,
  openImage,
} from '../../lib/index.ts';
import { startModule } from '../image/child.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { expectError, failureOf, receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { fingerprint } from '../support/sending.ts';
import { startOf } from '../support/small-vm.ts';
import { temporaryFolder } from '../support/temp.ts';
import { kill, lineOf } from './children/process.ts';

const DISK_MIB = 64;
const root = process.geteuid?.() === 0;

const folder = await temporaryFolder();
const disk = join(folder.path, 'disk');
const image = join(folder.path, 'vm');
await mkdir(disk);
const missing = mount();
if (missing) console.warn(`NOT RUN: a full disk: ${missing}`);

/** Why no small file system can be had here, or undefined when it is mounted. */
function mount(): string | undefined {
  if (!root) return 'mounting a small tmpfs needs root';
  const options = ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'none', disk];
  const { status, stderr } = spawnSync('mount', options, { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? undefined : `mounting a tmpfs is not allowed here: ${stderr ?? 'there is no mount'}`;
}

let before: readonly string[] = [];
beforeAll(async () => {
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 48n * MIB, fill: 'random' }])).close();
  before = await fingerprint(image);
});
afterAll(async () => {
  // Fails while anything of a migration is still mapped or open there.
  const unmounted = missing ? 0 : spawnSync('umount', [disk]).status;
  await folder[Symbol.asyncDispose]();
  expect(unmounted).toBe(0);
});

interface Outcome {
  readonly source: Awaited<ReturnType<typeof failureOf>>;
  readonly destination: Awaited<ReturnType<typeof failureOf>>;
}

async function failing(
  writer: ImageWriter,
  vm: ImageReader,
  pinAll: boolean,
  populate: 'always' | 'never' = 'always',
  channels = 1,
): Promise<Outcome> {
  const limits = { responseTimeoutMs: 5_000, channels };
  const options = { ...limits, populate };
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', writer, options);
  const received = failureOf(destination.receive(), 'the destination');
  const sent = failureOf(
    new MigrationSource(vm, destination.uri, { ...limits, pinAll }).migrate(),
    'the source',
  );
  const [source, failed] = await Promise.all([sent, received]);
  return { source, destination: failed };
}

describe.skipIf(missing !== undefined)(`a full disk${missing ? ` (not run: ${missing})` : ''}`, () => {
  // Without memory that is got ahead, the WRITEs themselves find the disk full.
  const CASES = [1, 2].flatMap((channels) =>
    [true, false].flatMap((pinAll) => [
      { channels, pinAll, populate: 'always' as const },
      { channels, pinAll, populate: 'never' as const },
    ]),
  );
  it.each(CASES)(
    'ends both sides, says why and leaves nothing: %o',
    async ({ channels, pinAll, populate }) => {
      await writeFile(join(disk, 'ballast'), Buffer.alloc(40 << 20, 1));
      const free = (await statfs(disk)).bfree;
      await using vm = await openImage(image);
      await using writer = await ImageWriter.open(join(disk, 'vm'));
      const { source, destination } = await failing(writer, vm, pinAll, populate, channels);
      expectError(destination, 'DISK_FULL', ['ram', 'image', 'setup']);
      expectError(source, 'PEER_ERROR', ['ram', 'device-state', 'setup']);
      expect(source.details).toMatchObject({ peerCode: 'DISK_FULL', peerMessage: destination.message });
      expect(source.message).toContain(destination.message);
      expect(await readdir(disk)).toEqual(['ballast']);
      expect((await statfs(disk)).bfree).toBe(free);
      expect(await fingerprint(image)).toEqual(before);
    },
  );

  it('is none for a VM with more RAM than the whole disk and less content than is free', async () => {
    const large = join(folder.path, 'large');
    const length = BigInt(2 * DISK_MIB) * MIB;
    await using vm = await syntheticImage(large, [{ name: 'pc.ram', length, fill: 'sparse' }]);
    await rm(join(disk, 'ballast'), { force: true });
    const target = join(disk, 'vm');
    await using writer = await ImageWriter.open(target);
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', writer);
    const received = destination.receive();
    await new MigrationSource(vm, destination.uri).migrate();
    await received;
    expect(await differingFiles(large, target)).toEqual([]);
    await rm(target, { recursive: true });
  });

  it('is not made by a source that registers all RAM and writes none', async () => {
    const images = join(disk, 'images');
    await mkdir(images);
    await rm(join(disk, 'ballast'), { force: true });
    const ram = BigInt(DISK_MIB - 4) * MIB;
    const options = { populate: 'always', responseTimeoutMs: 2_000 } as const;
    await using received = await receiving(options, { external: false, folder: images });
    const start = startOf([{ name: 'pc.ram', length: ram }]);
    await using source = await ScriptedSource.connect(received.port, { commit: true, start });
    await source.reach('ram');
    await source.register(ram / MIB - 1n);
    let least = Number.POSITIVE_INFINITY;
    let ended = false;
    const look = async (): Promise<void> => {
      const { bavail, bsize } = await statfs(disk);
      least = Math.min(least, bavail * bsize);
    };
    void received.result
      .catch(() => {})
      .finally(() => {
        ended = true;
      });
    while (!ended) await look().then(() => delay(10));
    await received.fails('TIMEOUT', 'ram');
    // Something is touched ahead, and most of what was free stays free.
    expect(least).toBeLessThan((DISK_MIB - 8) << 20);
    expect(least).toBeGreaterThan((DISK_MIB / 2) << 20);
    await writeFile(join(disk, 'ballast'), '');
  });

  it('that became read-only is a matter of permission', async () => {
    await using vm = await openImage(image);
    await using writer = await ImageWriter.open(join(folder.path, 'elsewhere'), {
      ramFiles: { 'pc.ram': join(disk, 'ram') },
    });
    expect(spawnSync('mount', ['-o', 'remount,ro', disk]).status).toBe(0);
    try {
      const { source, destination } = await failing(writer, vm, true);
      expectError(destination, 'PERMISSION_DENIED', 'image');
      expectError(source, 'PEER_ERROR', 'setup');
      expect(await readdir(folder.path)).not.toContain('elsewhere');
    } finally {
      spawnSync('mount', ['-o', 'remount,rw', disk]);
    }
  });
});

it('a limit on the size of files is a full disk too', async () => {
  const path = join(folder.path, 'limited');
  const child = startModule('../hostile/children/receive.ts', [path]);
  try {
    const uri = await lineOf(child, 'uri ');
    const limited = spawnSync('prlimit', ['--pid', `${child.pid}`, `--fsize=${16 << 20}`]);
    expect(limited.status).toBe(0);
    const failed = lineOf(child, 'failed ');
    await using vm = await openImage(image);
    const error = await failureOf(new MigrationSource(vm, uri).migrate(), 'the source');
    expectError(error, 'PEER_ERROR', 'setup');
    expect(await failed).toBe('DISK_FULL image');
    expect((await readdir(folder.path)).filter((name) => name.includes('limited'))).toEqual([]);
  } finally {
    await kill(child);
  }
});

const asRoot = root ? 'root may write anywhere' : undefined;
if (asRoot) console.warn(`NOT RUN: a folder without write permission: ${asRoot}`);

it.skipIf(root)(`a folder without write permission (${asRoot ?? 'run'})`, async () => {
  const closed = join(folder.path, 'closed');
  await mkdir(closed);
  await using vm = await openImage(image);
  await using writer = await ImageWriter.open(join(folder.path, 'elsewhere'), {
    ramFiles: { 'pc.ram': join(closed, 'ram') },
  });
  await chmod(closed, 0o500);
  const { source, destination } = await failing(writer, vm, false);
  expectError(destination, 'PERMISSION_DENIED', 'image');
  expectError(source, 'PEER_ERROR', 'setup');
  expect(await readdir(closed)).toEqual([]);
});

/**
 * One end of many migrations at once. The parent says how many; the destination answers with an address for each, the source is given
 * them. Each end reports, for each migration, the code that it failed with, if it did, and when it ended.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DestinationTarget,
  ImageWriter,
  MigrationDestination,
  MigrationError,
  MigrationSource,
} from 'rdma-migrate';
import { MemoryTarget, sourceVm } from '../throughput/memory-vm.ts';

export interface Begin {
  readonly count: number;
  readonly bytes: number;
  /** The first migration goes to an image in this folder, whose file system is too small. */
  readonly small?: string;
  readonly uris?: readonly string[];
}

/** Of one migration: what it failed with, and milliseconds from the begin of all to its end. */
export interface Ended {
  readonly failed: string | null;
  readonly atMs: number;
}

async function ended(began: number, work: Promise<unknown>): Promise<Ended> {
  const failed = await work.then(
    () => null,
    (error: unknown) => (error instanceof MigrationError ? error.code : String(error)),
  );
  return { failed, atMs: performance.now() - began };
}

async function destinations({ count, small }: Begin): Promise<void> {
  const targets: (DestinationTarget & { close(): Promise<void> })[] = [];
  for (let index = 0; index < count; index++) {
    targets.push(index === 0 && small ? await imageIn(small) : new MemoryTarget({ populates: false }));
  }
  const waiting = await Promise.all(
    targets.map((target) =>
      MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp', populate: 'never' }),
    ),
  );
  process.send?.({ uris: waiting.map(({ uri }) => uri) });
  const began = performance.now();
  const outcomes = await Promise.all(waiting.map((destination) => ended(began, destination.receive())));
  process.send?.(outcomes);
  await Promise.all([...waiting, ...targets].map((each) => each.close()));
}

/** An image whose disk somebody else fills once its room has been looked at. */
async function imageIn(folder: string): Promise<DestinationTarget & { close(): Promise<void> }> {
  const image = await ImageWriter.open(join(folder, 'vm'));
  return {
    allocate: async (vm) => {
      const blocks = await image.allocate(vm);
      await fill(join(folder, 'somebody-else'));
      return blocks;
    },
    append: (bytes) => image.append(bytes),
    commit: () => image.commit(),
    abort: () => image.abort(),
    close: () => image.close(),
  };
}

async function fill(path: string): Promise<void> {
  const file = await open(path, 'w');
  const piece = Buffer.alloc(1 << 20);
  try {
    for (;;) await file.write(piece);
  } catch {
    // full
  } finally {
    await file.close();
  }
}

async function sources({ bytes, uris = [] }: Begin): Promise<void> {
  const vms = [];
  for (const _ of uris) vms.push(await sourceVm(BigInt(bytes)));
  process.send?.({ ready: true });
  await new Promise((resolve) => process.once('message', resolve));
  const began = performance.now();
  const outcomes = await Promise.all(
    vms.map((vm, index) =>
      ended(began, new MigrationSource(vm, uris[index] as string, { provider: 'iwarp' }).migrate()),
    ),
  );
  process.send?.(outcomes);
  for (const vm of vms) await vm[Symbol.asyncDispose]();
}

process.once('message', async (begin: Begin) => {
  await (begin.uris ? sources(begin) : destinations(begin));
  process.disconnect();
});

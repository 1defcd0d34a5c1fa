import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromQemu, MigrationSource, openImage } from 'rdma-migrate';
import { syntheticStream } from '../../../examples/synthetic/vm.ts';
import type { Service } from './service.ts';

const FILES = ['before.bin', 'after.bin'];

/** Makes a VM that nobody has seen before, sends it, and compares what the service has kept with it. @throws Error it is another one */
export async function sendNew(service: Service, work: string, ramBytes: bigint): Promise<void> {
  const path = join(work, randomUUID());
  await fromQemu(syntheticStream([{ name: 'pc.ram', length: ramBytes, fill: 'random' }]), path);
  try {
    await using vm = await openImage(path);
    await using source = new MigrationSource(vm, service.uri, { provider: 'iwarp' });
    const end = service.end(source.migrationId);
    const [{ outcome }] = await Promise.all([source.migrate(), end]);
    if (outcome !== 'committed') throw new Error(`the source was told that its VM is ${outcome}`);
    const kept = join(service.folder, source.migrationId);
    const files = vm.manifest.blocks.flatMap(({ file }) => file ?? []);
    for (const file of [...FILES, ...files]) await requireSame(join(path, file), join(kept, file));
    await rm(kept, { recursive: true });
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

async function requireSame(left: string, right: string): Promise<void> {
  const [sent, kept] = await Promise.all([readFile(left), readFile(right)]);
  if (!sent.equals(kept)) throw new Error(`${right} is not what was sent as ${left}`);
}

import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromQemu, type ImageReader, MigrationError, MigrationSource, openImage } from 'rdma-migrate';
import { syntheticStream } from '../../../examples/synthetic/vm.ts';
import type { Service } from './service.ts';

const FOR_NOW: ReadonlySet<string> = new Set(['BUSY', 'REJECTED']);
const AGAIN_MS = 200;
const FILES = ['before.bin', 'after.bin'];

/** Makes a VM that nobody has seen before, sends it, and compares what the service has kept with it. @throws Error it is another one */
export async function sendNew(service: Service, work: string, ramBytes: bigint): Promise<void> {
  const path = join(work, randomUUID());
  await fromQemu(syntheticStream([{ name: 'pc.ram', length: ramBytes, fill: 'random' }]), path);
  try {
    await using vm = await openImage(path);
    let id = await send(service, vm);
    while (id === undefined) {
      service.refused += 1;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      id = await send(service, vm);
    }
    const kept = join(service.folder, id);
    const files = vm.manifest.blocks.flatMap(({ file }) => file ?? []);
    for (const file of [...FILES, ...files]) await requireSame(join(path, file), join(kept, file));
    await rm(kept, { recursive: true });
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

/** undefined: refused before anything was sent, for now: one address has only so many requests that wait for an answer (docs/security.md). */
async function send(service: Service, vm: ImageReader): Promise<string | undefined> {
  await using source = new MigrationSource(vm, service.uri, { provider: 'iwarp' });
  const { migrationId } = source;
  const end = service.end(migrationId);
  try {
    const { outcome } = await source.migrate();
    if (outcome !== 'committed') throw new Error(`the source was told that its VM is ${outcome}`);
  } catch (error) {
    if (!(error instanceof MigrationError) || !FOR_NOW.has(error.code)) throw error;
    return undefined;
  }
  await end;
  return migrationId;
}

async function requireSame(left: string, right: string): Promise<void> {
  const [sent, kept] = await Promise.all([readFile(left), readFile(right)]);
  if (!sent.equals(kept)) throw new Error(`${right} is not what was sent as ${left}`);
}

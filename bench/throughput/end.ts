/**
 * One end of the benchmark, a process of its own: `destination FOLDER` or `source FOLDER BYTES`, FOLDER being that of the build that is
 * measured. Each message of the parent is one migration.
 */

import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MemoryTarget, type Package, sourceVm } from './memory-vm.ts';

export interface Settings {
  readonly uri?: string;
  readonly pinAll?: boolean;
  readonly crc: boolean;
  readonly channels?: number;
}

/** Of one migration at one end. */
export interface Taken {
  /** From the first request for a key until the destination has taken the end of the round; NaN at the destination. */
  readonly ramSeconds: number;
  readonly totalSeconds: number;
  readonly cpuSeconds: number;
}

const [role, folder, bytes] = process.argv.slice(2) as [string, string, string];
const from = (await import(pathToFileURL(join(resolve(folder), 'dist/index.js')).href)) as Package;

async function measured(work: () => Promise<number>): Promise<Taken> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  const ramSeconds = await work();
  const { user, system } = process.cpuUsage(cpu);
  return {
    ramSeconds,
    totalSeconds: (performance.now() - began) / 1000,
    cpuSeconds: (user + system) / 1e6,
  };
}

async function source(): Promise<void> {
  const vm = await sourceVm(BigInt(bytes), {}, from);
  process.on('message', async ({ uri = '', ...options }: Settings) => {
    const migration = new from.MigrationSource(vm, uri, { ...options, provider: 'iwarp' });
    const at: Record<string, number> = {};
    migration.on('phase', (phase) => {
      at[phase] = performance.now();
    });
    const taken = await measured(async () => {
      await migration.migrate();
      return ((at['device-state'] ?? Number.NaN) - (at.ram ?? Number.NaN)) / 1000;
    });
    process.send?.(taken);
  });
  process.send?.({ ready: true });
}

function destination(): void {
  const target = new MemoryTarget({}, from);
  process.on('message', async ({ crc, channels }: Settings) => {
    const options = { crc, provider: 'iwarp', ...(channels && { channels }) } as const;
    const listening = await from.MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
    process.send?.({ uri: listening.uri });
    const taken = await measured(async () => {
      await listening.receive();
      return Number.NaN;
    });
    process.send?.(taken);
    await listening.close();
  });
}

process.on('disconnect', () => process.exit(0));
if (role === 'source') await source();
else destination();

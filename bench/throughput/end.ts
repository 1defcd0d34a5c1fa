/**
 * One end of the benchmark, a process of its own: `destination FOLDER` or `source FOLDER`, FOLDER being that of the build that is measured.
 * Its first message says what its RAM is; each later one is one migration.
 */
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { SourceVm } from 'rdma-migrate';
import { FreshTarget, fileVm, MemoryTarget, type Package, sourceVm } from './memory-vm.ts';
import type { Sample } from './sample.ts';

/** What the source sends, and what the destination has for it. */
export interface Ram {
  /** Memory that is touched already and kept, or such as nobody has touched. */
  readonly into: 'touched' | 'fresh';
  /** Of one block. */
  readonly bytes: number;
  /** Each block is all of it; absent: one block of its own. */
  readonly file?: string;
}

export interface Settings {
  readonly uri?: string;
  readonly pinAll?: boolean;
  readonly crc: boolean;
  readonly channels?: number;
  /** Credentials of both ends. */
  readonly tls?: { readonly creds: string };
  /** Each all of {@link Ram.file}; 1 if absent. */
  readonly blocks?: number;
}

/** What one end says of a migration; an older build says nothing of control messages. */
export interface Taken extends Pick<Sample, 'control' | 'channels'> {
  /** From the first request for a key until the destination has taken the end of the round; absent at the destination. */
  readonly ramSeconds?: number;
  readonly totalSeconds: number;
  readonly cpuSeconds: number;
}

const [role, folder] = process.argv.slice(2) as [string, string];
const from = (await import(pathToFileURL(join(resolve(folder), 'dist/index.js')).href)) as Package;

async function measured(work: () => Promise<Partial<Taken>>): Promise<Taken> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  const known = await work();
  const totalSeconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { ...known, totalSeconds, cpuSeconds: (user + system) / 1e6 };
}

async function send(vm: SourceVm, { uri = '', blocks: _, ...options }: Settings): Promise<Partial<Taken>> {
  const migration = new from.MigrationSource(vm, uri, { ...options, provider: 'iwarp' });
  const at: Record<string, number> = {};
  migration.on('phase', (phase) => {
    at[phase] = performance.now();
  });
  const { channels, control } = await migration.migrate();
  const ramSeconds = ((at['device-state'] ?? Number.NaN) - (at.ram ?? Number.NaN)) / 1000;
  return { ramSeconds, channels, ...(control && { control }) };
}

function source({ file, bytes }: Ram): (settings: Settings) => Promise<void> {
  const own = file === undefined ? sourceVm(BigInt(bytes), {}, from) : undefined;
  return async (settings) => {
    if (file === undefined) {
      const vm = await (own as Promise<SourceVm>);
      process.send?.(await measured(() => send(vm, settings)));
      return;
    }
    await using vm = await fileVm({ file, bytes: BigInt(bytes), blocks: settings.blocks ?? 1 }, from);
    process.send?.(await measured(() => send(vm, settings)));
  };
}

function destination(ram: Ram): (settings: Settings) => Promise<void> {
  const touched = ram.into === 'touched' ? new MemoryTarget({}, from) : undefined;
  return async ({ crc, channels, tls }) => {
    const options = { crc, provider: 'iwarp', ...(channels && { channels }), ...(tls && { tls }) } as const;
    const target = touched ?? new FreshTarget(from);
    const listening = await from.MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
    process.send?.({ uri: listening.uri });
    const taken = await measured(async () => {
      await listening.receive();
      return {};
    });
    await listening.close();
    if (!touched) await target.close();
    process.send?.(taken);
  };
}

process.on('disconnect', () => process.exit(0));
process.once('message', (ram: Ram) => {
  const migrate = (role === 'source' ? source : destination)(ram);
  process.on('message', (settings: Settings) => {
    migrate(settings).catch((error: Error) => process.send?.({ error: `${role}: ${error.message}` }));
  });
  process.send?.({ ready: true });
});

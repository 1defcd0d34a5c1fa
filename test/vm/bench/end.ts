/**
 * One end of our migrations in the VM, a process of its own: `destination FOLDER` or `source FOLDER DATA TOTAL`, FOLDER being that of the
 * build that is measured, the sizes in bytes. Each message of the parent is one migration.
 */
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FreshTarget, MemoryTarget, type Package, sourceVm } from '../../../bench/throughput/memory-vm.ts';
import { GUEST_ADDRESS } from '../job.ts';

export interface Settings {
  readonly pinAll: boolean;
  /** The destination's memory is there before the migration begins; otherwise it is new. */
  readonly touched: boolean;
  /** For the source: where the destination listens. */
  readonly uri?: string;
}

/** Of one migration, at the source, in seconds. */
export interface Taken {
  readonly total: number;
  /** The phase `ram`. With pin-all all RAM has been registered before it; without, spans are registered in it. */
  readonly ram: number;
  /** How long each phase lasted. */
  readonly phases: Readonly<Record<string, number>>;
  readonly cpu: number;
}

const [role, folder = '', data = '0', total = '0'] = process.argv.slice(2);
const from = (await import(pathToFileURL(join(resolve(folder), 'dist/index.js')).href)) as Package;

async function source(): Promise<void> {
  const vm = await sourceVm(BigInt(data), { total: BigInt(total) }, from);
  process.on('message', async ({ uri = '', pinAll }: Settings) => {
    const migration = new from.MigrationSource(vm, uri, { pinAll, provider: 'verbs' });
    const cpu = process.cpuUsage();
    const began = performance.now();
    const phases: Record<string, number> = {};
    let last = { phase: 'connect', at: began };
    const next = (phase: string): void => {
      const now = performance.now();
      phases[last.phase] = (phases[last.phase] ?? 0) + (now - last.at) / 1000;
      last = { phase, at: now };
    };
    migration.on('phase', next);
    await migration.migrate();
    next('end');
    const { user, system } = process.cpuUsage(cpu);
    const ram = phases.ram ?? Number.NaN;
    process.send?.({ total: (performance.now() - began) / 1000, ram, phases, cpu: (user + system) / 1e6 });
  });
  process.send?.({ ready: true });
}

function destination(): void {
  const kept = new MemoryTarget({}, from);
  process.on('message', async ({ touched }: Settings) => {
    const target = touched ? kept : new FreshTarget(from);
    const listening = await from.MigrationDestination.listen(`rdma:${GUEST_ADDRESS}:0`, target, {
      provider: 'verbs',
    });
    process.send?.({ uri: listening.uri });
    const cpu = process.cpuUsage();
    await listening.receive();
    const { user, system } = process.cpuUsage(cpu);
    await listening.close();
    if (!touched) await target.close();
    process.send?.({ cpu: (user + system) / 1e6 });
  });
}

process.on('disconnect', () => process.exit(0));
if (role === 'source') await source();
else destination();

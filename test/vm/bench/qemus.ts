/** QEMU's own `rdma:` migrations between two stock QEMUs of the VM: a stopped guest with as much data as our VM, to a new QEMU each time. */
import type { Qemu } from '../../../examples/qemu/qemu.ts';
import { evenOnSiw } from '../interop/again.ts';
import { setPinAll, waitForOutcome, waitUntilDirtying } from '../interop/qemu.ts';
import { listen, type Scene, withVm } from '../interop/scene.ts';

const NO_LIMIT = 2 ** 33;

export interface Size {
  readonly ramBytes: number;
  /** Of it, what is not zero. */
  readonly regionBytes: number;
}

export async function withStoppedGuest<T>(
  scene: Scene,
  size: Size,
  work: (source: Qemu) => Promise<T>,
): Promise<T> {
  return withVm(scene, { name: 'stopped', ...size }, async (source) => {
    await waitUntilDirtying(source);
    await source.execute('stop');
    return work(source);
  });
}

/** @returns seconds, QEMU's `total-time` */
export function migrateQemu(scene: Scene, source: Qemu, size: Size, pinAll: boolean): Promise<number> {
  const migrate = () =>
    withVm(scene, { name: 'target', incoming: 'defer', paused: true, ...size }, async (target) => {
      const uri = await listen(scene, target, pinAll);
      // A VM that has been migrated must be told that it is still the one before it can be migrated again.
      await source.execute('cont');
      await source.execute('stop');
      await setPinAll(source, pinAll);
      await source.execute('migrate-set-parameters', { 'max-bandwidth': NO_LIMIT });
      await source.execute('migrate', { uri });
      const info = await waitForOutcome(source);
      if (info.status !== 'completed')
        throw new Error(`QEMU: ${info.status}: ${info['error-desc'] ?? 'no reason'}`);
      return (info['total-time'] ?? Number.NaN) / 1000;
    });
  return evenOnSiw(migrate, console.error);
}

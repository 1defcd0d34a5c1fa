import { MigrationError } from 'rdma-migrate';
import type { Qemu } from '../qemu/qemu.ts';
import type { DemoContext } from './context.ts';
import { readState } from './guest-watch.ts';

/** The destination may hold the VM but could not say so: it must not run twice. Any other failure of a migration leaves it here. */
export function mayRunAgain(error: unknown): boolean {
  return !(error instanceof MigrationError && error.code === 'COMMIT_UNKNOWN');
}

/** After a failed migration: lets the VM go on where it was, and says so. Never fails: the failure before it is what matters. */
export async function resume({ narrator }: DemoContext, source: Qemu): Promise<void> {
  narrator.step('The migration failed: let the VM go on in the first QEMU');
  try {
    const { steps } = await readState(source);
    await source.execute('cont');
    await source.waitUntil('the guest to go on', async () => {
      return (await readState(source)).steps > steps || undefined;
    });
    narrator.say(`the first QEMU is ${await source.status()} and its guest goes on after step ${steps}`);
  } catch (error) {
    narrator.say(
      `the first QEMU could not be resumed: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

export function stayPaused({ narrator }: DemoContext): void {
  narrator.say('the destination may hold the VM, so the first QEMU stays paused: a VM must never run twice');
}

/** How a QEMU that waits for a VM is ended, whoever started it. */
import { MigrationError } from '../errors.ts';
import type { QmpClient } from '../qmp/client.ts';

const QUIT_TIMEOUT_MS = 2_000;
/** What waits for a disk that hangs does not end by any signal. */
const KILLED_TIMEOUT_MS = 10_000;

/** A process that can be ended. */
export interface Endable {
  readonly pid: number;
  /** Absent: it has none yet, and is killed at once. */
  readonly qmp: QmpClient | undefined;
  /** Whether it has ended, waited for so long. */
  readonly gone: (timeoutMs: number) => Promise<boolean>;
  /** SIGKILL; nothing if it has ended. */
  readonly kill: () => void | Promise<void>;
}

/** It certainly does not run any more when this resolves. @throws MigrationError GUEST_ERROR: it is there still */
export async function endQemu({ pid, qmp, gone, kill }: Endable): Promise<void> {
  await qmp?.execute('quit', {}, { timeoutMs: QUIT_TIMEOUT_MS }).catch(() => {});
  if (await gone(qmp ? QUIT_TIMEOUT_MS : 0)) return;
  await kill();
  if (await gone(KILLED_TIMEOUT_MS)) return;
  const message = `the waiting QEMU (process ${pid}) does not end: end it by hand`;
  throw new MigrationError('GUEST_ERROR', 'commit', message);
}

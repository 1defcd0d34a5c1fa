/** A QEMU that waits for a VM (`-incoming defer`), whoever started it. */
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError } from '../errors.ts';
import { startTimeOf } from '../owner.ts';
import type { QmpClient } from '../qmp/client.ts';
import { endQemu } from './end.ts';

const POLL_MS = 20;

/** A QEMU that was started with `-incoming defer` and waits for its VM. */
export interface WaitingQemu {
  readonly qmp: QmpClient;
  readonly pid: number;
  /** As an operator can name it. */
  readonly qmpSocket: string;
  /** The last of what it has written, if that is known. */
  said?(): Promise<string>;
  /** Once this resolves it outlives this process. @throws MigrationError GUEST_ERROR: it has ended */
  keep(): Promise<void>;
  /** Ends it: it certainly does not run any more when this resolves. @throws MigrationError GUEST_ERROR: it is there still */
  end(): Promise<void>;
}

/**
 * Aborts with GUEST_ERROR when QEMU ends, or its QMP does.
 * @param until no matter any more
 */
export function untilItEnds(qemu: WaitingQemu, until: AbortSignal): AbortSignal {
  const ended = new AbortController();
  const events = qemu.qmp.events();
  until.addEventListener('abort', () => void events.return?.(), { once: true });
  const watch = async (): Promise<void> => {
    for await (const _ of events) if (until.aborted) return;
  };
  const report = async (): Promise<void> => {
    if (until.aborted) return;
    const said = await qemu.said?.();
    const message = `the QEMU that waited for the VM (process ${qemu.pid}) has ended${said ? `: ${said}` : ''}`;
    ended.abort(new MigrationError('GUEST_ERROR', 'setup', message));
  };
  watch().then(report, report);
  return ended.signal;
}

/** A QEMU that somebody else has started. */
export async function joinedQemu(qmp: QmpClient, pid: number, qmpSocket: string): Promise<WaitingQemu> {
  const start = await startTimeOf(pid);
  const gone = async (): Promise<boolean> => (await startTimeOf(pid)) !== start;
  const wait = async (timeoutMs: number): Promise<boolean> => {
    const deadline = performance.now() + timeoutMs;
    while (!(await gone())) {
      if (performance.now() > deadline) return false;
      await delay(POLL_MS);
    }
    return true;
  };
  const kill = async (): Promise<void> => {
    try {
      if (!(await gone())) process.kill(pid, 'SIGKILL');
    } catch {} // it has just ended, or is not ours to end: the next look tells
  };
  const end = (): Promise<void> => endQemu({ pid, qmp, gone: wait, kill });
  return { qmp, pid, qmpSocket, keep: async () => {}, end };
}

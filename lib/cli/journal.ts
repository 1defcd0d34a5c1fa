/** Lines for systemd's journal: it takes each line as a message, and its priority from a prefix (sd-daemon(3)). */
import { fstatSync } from 'node:fs';

/** Of syslog. */
export const PRIORITY = { error: 3, warning: 4, notice: 5, info: 6, debug: 7 } as const;
export type Priority = keyof typeof PRIORITY;

/** Whether what is written to a descriptor goes to the journal: its socket is the one that JOURNAL_STREAM names, as systemd.exec(5) has it. */
export function goesToJournal(fd: number, env: NodeJS.ProcessEnv = process.env): boolean {
  const [, device, inode] = /^(\d+):(\d+)$/.exec(env.JOURNAL_STREAM ?? '') ?? [];
  if (device === undefined || inode === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return dev === BigInt(device) && ino === BigInt(inode);
  } catch {
    return false; // it is closed: nobody reads it
  }
}

export const prefixed = (line: string, priority: Priority): string => `<${PRIORITY[priority]}>${line}`;

/** What `receive --keep` needs beside a service: its lines in systemd's journal, the service manager, room on the disk. */
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { goesToJournal, prefixed } from '../../lib/cli/journal.ts';
import { FolderSpace } from '../../lib/cli/keep/folder-space.ts';
import { ServiceManager } from '../../lib/cli/keep/service-manager.ts';
import { createLogger } from '../../lib/cli/log.ts';
import { native } from '../../lib/native/index.ts';

describe('a line for the journal', () => {
  it('has a priority only where the descriptor is that which JOURNAL_STREAM names', async () => {
    await using file = await open('/dev/null', 'w');
    const { dev, ino } = await file.stat();
    expect(goesToJournal(file.fd, { JOURNAL_STREAM: `${dev}:${ino}` })).toBe(true);
    const others = [`${dev}:${ino + 1}`, `${dev}`, 'x:y', '', undefined];
    for (const JOURNAL_STREAM of others) expect(goesToJournal(file.fd, { JOURNAL_STREAM })).toBe(false);
    expect(goesToJournal(1_000_000, { JOURNAL_STREAM: `${dev}:${ino}` })).toBe(false);
  });

  it('has that of its level', () => {
    const lines: string[] = [];
    const write = (line: string, priority: Parameters<typeof prefixed>[1]): void => {
      lines.push(prefixed(line, priority));
    };
    const log = createLogger({ quiet: false, verbose: true, format: 'text' }, write);
    log.debug('a');
    log.info('b');
    log.warn('c');
    log.error('d');
    expect(lines.map((line) => line.replace(/>.* (\w)$/, '>$1'))).toEqual(['<7>a', '<5>b', '<4>c', '<3>d']);
  });
});

describe('a service manager', () => {
  it('that is not there is told nothing, and one that does not answer is said once', () => {
    const said: string[] = [];
    const failed = (message: string): void => void said.push(message);
    using none = new ServiceManager(failed, {});
    none.ready(() => 'status', 1000);
    none.stopping();
    expect(said).toEqual([]);
    using gone = new ServiceManager(failed, { NOTIFY_SOCKET: join(tmpdir(), 'nobody-is-here') });
    gone.ready(() => 'status', 1000);
    gone.stopping();
    expect(said).toEqual([expect.stringMatching(/could not be told.*No such file/)]);
  });

  it.each(['', '@', 'relative', `/${'x'.repeat(107)}`, `@${'x'.repeat(108)}`, '/a\0b'])(
    'has no address such as %j',
    (address) => {
      expect(() => native.sendDatagram(address, 'READY=1')).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    },
  );
});

describe('room in the folder of a service', () => {
  it('is kept free for what those that are under way have not written yet', async () => {
    let free = 100n;
    const space = new FolderSpace('/vms', async () => ({ device: 1n, free, isMemory: false }));
    let written = 0;
    await space.take('a', 60n, () => written);
    const details = { needed: 50n, free: 100n, pledged: 60n };
    await expect(space.take('b', 50n, () => 0)).rejects.toMatchObject({ code: 'DISK_FULL', details });
    written = 50;
    free = 50n;
    await space.take('b', 40n, () => 0);
    await expect(space.take('c', 1n, () => 0)).rejects.toMatchObject({ code: 'DISK_FULL' });
    space.giveBack('a');
    await space.take('c', 10n, () => 0);
  });

  it('is seen by two that ask at the same time', async () => {
    const space = new FolderSpace('/vms', async () => ({ device: 1n, free: 100n, isMemory: false }));
    const asked = ['a', 'b'].map((id) => space.take(id, 60n, () => 0));
    const outcomes = (await Promise.allSettled(asked)).map(({ status }) => status);
    expect(outcomes).toEqual(['fulfilled', 'rejected']);
  });
});

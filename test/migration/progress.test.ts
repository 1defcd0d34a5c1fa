/** Following a migration ends, whatever becomes of it. */
import { describe, expect, it } from 'vitest';
import { MigrationDestination, type MigrationProgress, MigrationSource } from '../../lib/index.ts';
import { attempt, failure } from '../support/live-attempt.ts';
import { LiveGuest, MemoryTarget } from '../support/live-guest.ts';
import { MemoryVm } from '../support/memory-vm.ts';
import { withDeadline } from '../support/raw-iwarp.ts';

type Followed = Pick<MigrationSource, 'progress'>;

/** The last progress. `running`: the first has been yielded. */
function follow(migration: Followed): { running: Promise<void>; last: Promise<MigrationProgress> } {
  let begun = (): void => {};
  const running = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const last = async (): Promise<MigrationProgress> => {
    let progress: MigrationProgress | undefined;
    for await (progress of migration.progress(60_000)) begun();
    return progress as MigrationProgress;
  };
  return { running, last: withDeadline(last(), 'the end of progress()', 15_000) };
}

const source = (vm: MemoryVm): MigrationSource => new MigrationSource(vm, 'rdma:127.0.0.1:1');
const oneBlock = (): Promise<MemoryVm> => MemoryVm.create({ ram: 4096n });
const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

describe('progress', () => {
  it('of a destination that is closed before it receives ends', async () => {
    await using target = new MemoryTarget();
    const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
    const { running, last } = follow(destination);
    await running;
    await destination.close();
    expect((await last).status).toBe('cancelled');
    expect((await failure(destination.receive())).code).toBe('CANCELLED');
  });

  it('of a source that is closed before it migrates ends, and it migrates no more', async () => {
    await using vm = await oneBlock();
    const given = source(vm);
    let ends = 0;
    given.on('end', () => (ends += 1));
    const { running, last } = follow(given);
    await running;
    await given.close();
    expect((await last).status).toBe('cancelled');
    expect((await failure(given.migrate())).code).toBe('CANCELLED');
    await given.close();
    expect(ends).toBe(1);
  });

  it('of a migration that has ended, or was closed, is one last word', async () => {
    await using vm = await oneBlock();
    const given = source(vm);
    await given.close();
    const seen: MigrationProgress[] = [];
    for await (const progress of given.progress()) seen.push(progress);
    expect(seen.map(({ status }) => status)).toEqual(['cancelled']);
  });

  it('of a source that nobody ever starts keeps no process alive', async () => {
    await using vm = await oneBlock();
    const progress = source(vm).progress(60_000);
    await progress.next();
    const before = timers();
    void progress.next();
    expect(timers()).toBe(before);
  });

  it('of a source that fails at once ends', async () => {
    await using vm = await oneBlock();
    const given = new MigrationSource(vm, 'tcp:127.0.0.1:1');
    const { last } = follow(given);
    expect((await failure(given.migrate())).code).toBe('INVALID_URI');
    expect((await last).status).toBe('failed');
  });
});

describe('a source that is closed while it migrates', () => {
  it('fails as if it had been cancelled, and the guest runs on', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source: given, sent, received }) => {
      await expect.poll(() => given.current.ram['dirty-sync-count'], { timeout: 10_000 }).toBeGreaterThan(1);
      await given.close();
      expect(vm.isRunning).toBe(true);
      const error = await failure(sent);
      expect([error.code, error.message]).toEqual(['CANCELLED', 'the source was closed']);
      await failure(received);
    });
  });
});

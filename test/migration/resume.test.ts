/** What becomes of a migration whose link does not come back, and of one that is given up meanwhile. */
import { expect, it } from 'vitest';
import {
  MigrationDestination,
  type MigrationError,
  MigrationSource,
  type ResumeOptions,
} from '../../lib/index.ts';
import { CuttingProxy } from '../campaign/links/cutting-proxy.ts';
import { failure } from '../support/live-attempt.ts';
import { LiveGuest, MemoryTarget } from '../support/live-guest.ts';

interface Lost {
  readonly source: MigrationSource;
  readonly destination: MigrationDestination;
  readonly vm: LiveGuest;
  readonly target: MemoryTarget;
  readonly cancel: AbortController;
  /** How each end has ended. */
  readonly sent: Promise<MigrationError>;
  readonly received: Promise<MigrationError>;
}

/** A live migration in the middle of RAM, whose link is lost for good: both ends know it, and look for another one. */
async function whileLost(resume: ResumeOptions, work: (lost: Lost) => Promise<void>): Promise<void> {
  await using vm = await LiveGuest.create({ workingSet: 64 });
  await using target = new MemoryTarget();
  const options = { provider: 'iwarp', resume } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
  const cut = { after: 2 << 20, how: 'reset', all: true, outageMs: 600_000 } as const;
  await using proxy = await CuttingProxy.open(Number(destination.uri.split(':').at(-1)), [cut]);
  const source = new MigrationSource(vm, proxy.uri, options);
  const lost = [source, destination].map(
    (end) =>
      new Promise<void>((resolve) =>
        end.on('event', (event) => {
          if (event.type === 'link' && event.state === 'connected') proxy.begin();
          if (event.type === 'link' && event.state === 'lost' && event.channel === 1) resolve();
        }),
      ),
  );
  const cancel = new AbortController();
  const received = failure(destination.receive());
  const sent = failure(source.migrate({ signal: cancel.signal }));
  await Promise.all(lost);
  await work({ source, destination, vm, target, cancel, sent, received });
  expect(vm.isRunning).toBe(true);
  expect([target.committed, target.aborted]).toEqual([false, true]);
}

it('ends when the window is over, at each end by its own', () =>
  whileLost({ windowMs: 300, retryMs: 20 }, async ({ sent, received }) => {
    for (const error of await Promise.all([sent, received])) {
      expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
      expect(error.message).toMatch(/no new connection was made within 300 ms/);
    }
  }));

it('is cancelled at the source before the window is over', () =>
  whileLost({ windowMs: 600_000 }, async ({ sent, received, cancel, destination }) => {
    cancel.abort();
    expect(await sent).toMatchObject({ code: 'CANCELLED' });
    await destination.close();
    expect(await received).toMatchObject({ code: 'CANCELLED' });
  }));

it('is closed at the destination before the window is over', () =>
  whileLost({ windowMs: 600_000 }, async ({ sent, received, cancel, destination }) => {
    await destination.close();
    expect(await received).toMatchObject({ code: 'CANCELLED' });
    cancel.abort();
    expect(await sent).toMatchObject({ code: 'CANCELLED' });
  }));

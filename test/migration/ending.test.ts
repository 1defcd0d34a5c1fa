/** The end of a migration: device state, commit, and what becomes of the VM when either end gives up there. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MigrationError, MigrationHints, MigrationSource } from '../../lib/index.ts';
import { CONTROL_HEADER_BYTES, CONTROL_MAX_BYTES } from '../../lib/protocol/control.ts';
import { description, device } from '../protocol/streams.ts';
import { Committing, codes, migrate } from '../support/endings.ts';
import { LiveGuest } from '../support/live-guest.ts';
import { MemoryTarget, MemoryVm, migrateMemory } from '../support/memory-vm.ts';
import { SMALL_DEVICE_STATE } from '../support/small-vm.ts';

const MIB = 1n << 20n;
const FOOTER_BYTES = 5;

describe('device state', () => {
  const most = CONTROL_MAX_BYTES - CONTROL_HEADER_BYTES;
  it.each([
    ['one message', most],
    ['two messages', 2 * most],
    ['one byte more than a message', most + 1],
  ] as const)('that fills exactly %s arrives', async (_, bytes) => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new MemoryTarget();
    vm.after = async function* () {
      const end = description([{ name: 'gpu', instance_id: 0 }]);
      const body = bytes - FOOTER_BYTES - device(40, 'gpu', Buffer.alloc(0)).length - end.length;
      yield device(40, 'gpu', Buffer.alloc(body, 7));
      yield end;
    };
    const { source } = await migrateMemory(vm, target);
    expect(source['device-state-bytes']).toBe(bytes - FOOTER_BYTES);
  });

  it('that the VMM does not give in time ends the migration, and the guest goes on', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    vm.after = async function* () {
      yield SMALL_DEVICE_STATE.subarray(0, 10);
      await new Promise(() => {});
    };
    const ended = await migrate(vm, target, { source: { responseTimeoutMs: 2_000 } });
    expect(codes(ended)[0]).toBe('TIMEOUT');
    expect(String(ended.sent)).toContain('the VMM to save its device state');
    expect([vm.calls, vm.isRunning]).toEqual([['pause', 'resume'], true]);
  });

  it('that the VMM is saving does not keep a cancel waiting', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    const ended = await migrate(vm, target, {
      watch: (_, __, cancel) => {
        vm.after = async function* () {
          setImmediate(() => cancel.abort());
          await new Promise(() => {});
          yield SMALL_DEVICE_STATE;
        };
      },
    });
    expect(codes(ended)).toEqual(['CANCELLED', 'PEER_ERROR']);
    expect(vm.isRunning).toBe(true);
  });

  it('that the VMM cannot save is its error, not ours', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    // biome-ignore lint/correctness/useYield: it fails before
    vm.after = async function* () {
      throw Object.assign(new Error('no such device'), { code: 'ENOENT' });
    };
    const ended = await migrate(vm, target);
    expect(codes(ended)).toEqual(['GUEST_ERROR', 'PEER_ERROR']);
    expect(String(ended.sent)).toContain('no such device');
    expect(vm.isRunning).toBe(true);
  });
});

describe('a cancel before the commit', () => {
  it('is no question of who has the VM: COMMIT has not been sent', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    const ended = await migrate(vm, target, {
      source: { verify: true },
      watch: (source, _, cancel) => {
        source.on('phase', (phase) => phase === 'commit' && cancel.abort());
      },
    });
    expect(codes(ended)).toEqual(['CANCELLED', 'PEER_ERROR']);
    expect([vm.calls, vm.isRunning]).toEqual([['pause', 'resume'], true]);
  });

  it('sends no last bytes to a version 1 destination either', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(async () => {});
    const ended = await migrate(vm, target, {
      source: { commit: 'off' },
      watch: (_, __, cancel) => {
        vm.after = async function* () {
          yield SMALL_DEVICE_STATE;
          // Until then the destination's READY for the last message is here.
          await new Promise((resolve) => setTimeout(resolve, 200));
          cancel.abort();
        };
      },
    });
    expect(codes(ended)[0]).toBe('CANCELLED');
    expect(ended.received).toBeInstanceOf(MigrationError);
    expect(vm.isRunning).toBe(true);
  });

  it('at the destination leaves the VM at the source', async () => {
    await using vm = await LiveGuest.create();
    let begun = 0;
    await using target = new Committing(async () => {
      begun += 1;
    });
    const ended = await migrate(vm, target, {
      watch: (_, destination) => {
        destination.on('phase', (phase) => phase === 'commit' && void destination.close());
      },
    });
    expect(codes(ended)).toEqual(['PEER_ERROR', 'CANCELLED']);
    expect([begun, target.aborts, vm.isRunning]).toEqual([0, 1, true]);
  });
});

describe('a cancel while the VM is made durable', () => {
  it('at the destination comes too late when the commit succeeds, and the source hears of that', async () => {
    await using vm = await LiveGuest.create();
    let close = (): void => {};
    await using target = new Committing(async () => {
      close();
      await delay(100);
    });
    const ended = await migrate(vm, target, {
      watch: (_, destination) => {
        close = () => void destination.close();
      },
    });
    expect(codes(ended)).toEqual(['committed', 'committed']);
    expect(vm.isRunning).toBe(false);
  });

  it('at the source waits for the answer, which says that the VM has moved', async () => {
    await using vm = await LiveGuest.create();
    let cancel = (): void => {};
    const notices: string[] = [];
    await using target = new Committing(async () => {
      cancel();
      await delay(500);
    });
    const ended = await migrate(vm, target, {
      watch: (source, _, controller) => {
        cancel = () => controller.abort();
        source.on('notice', (notice) => notices.push(notice));
      },
    });
    expect(codes(ended)).toEqual(['committed', 'committed']);
    expect(vm.isRunning).toBe(false);
    expect(notices.join()).toContain('too late to be cancelled');
  });

  it('at the source waits for the answer, which says that the VM is the source’s', async () => {
    await using vm = await LiveGuest.create();
    let cancel = (): void => {};
    await using target = new Committing(async () => {
      cancel();
      await delay(500);
      throw new Error('the disk is gone');
    });
    const ended = await migrate(vm, target, {
      watch: (_, __, controller) => {
        cancel = () => controller.abort();
      },
    });
    expect(codes(ended)[0]).toBe('PEER_ERROR');
    expect(vm.isRunning).toBe(true);
  });

  it('at the source waits no longer than for any answer', async () => {
    await using vm = await LiveGuest.create();
    let cancel = (): void => {};
    await using target = new Committing(() => {
      cancel();
      return new Promise(() => {});
    });
    const ended = await migrate(vm, target, {
      source: { commitTimeoutMs: 1_000 },
      destination: { commitTimeoutMs: 2_000 },
      watch: (_, __, controller) => {
        cancel = () => controller.abort();
      },
    });
    expect(codes(ended)).toEqual(['COMMIT_UNKNOWN', 'COMMIT_UNKNOWN']);
    expect(String(ended.sent)).toContain('timed out after 1 s');
  });
});

describe('a target that takes its time to make the VM durable', () => {
  const limits = { destination: { commitTimeoutMs: 1_500 } };

  it('and does not answer: nobody knows who has the VM, and neither end says otherwise', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(() => new Promise(() => {}));
    const ended = await migrate(vm, target, limits);
    expect(codes(ended)).toEqual(['COMMIT_UNKNOWN', 'COMMIT_UNKNOWN']);
    expect([vm.calls, vm.isRunning]).toEqual([['pause'], false]);
    expect(target.aborts).toBeGreaterThan(0);
  });

  it('and obeys the abort: the guest goes on at the source', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(
      (it) =>
        new Promise((_, reject) => {
          it.onAbort = () => reject(new Error('aborted'));
        }),
    );
    expect(codes(await migrate(vm, target, limits))).toEqual(['PEER_ERROR', 'TIMEOUT']);
    expect(vm.isRunning).toBe(true);
  });

  it('and is past the point of no return when it is told to abort: the VM has moved', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(
      (it) =>
        new Promise((resolve) => {
          it.onAbort = resolve;
        }),
    );
    expect(codes(await migrate(vm, target, limits))).toEqual(['committed', 'committed']);
    expect(vm.isRunning).toBe(false);
  });

  it('is waited for longer than for any other answer', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new Committing(() => new Promise((resolve) => setTimeout(resolve, 4_000)));
    const short = { responseTimeoutMs: 2_000 };
    expect(codes(await migrate(vm, target, { source: short, destination: short }))).toEqual([
      'committed',
      'committed',
    ]);
  });

  it('cannot say whether it holds the VM: the source is not told that it does not', async () => {
    await using vm = await LiveGuest.create();
    const unknown = new MigrationError('COMMIT_UNKNOWN', 'image', 'the name could not be taken back');
    await using target = new Committing(() => Promise.reject(unknown));
    expect(codes(await migrate(vm, target))).toEqual(['COMMIT_UNKNOWN', 'COMMIT_UNKNOWN']);
    expect(vm.isRunning).toBe(false);
  });
});

it('a target that hangs while it makes room ends with its migration', async () => {
  await using vm = await MemoryVm.create({ 'pc.ram': MIB });
  await using target = new MemoryTarget();
  target.allocate = () => new Promise(() => {});
  const ended = await migrate(vm, target, { source: { responseTimeoutMs: 2_000 } });
  expect(codes(ended)).toEqual(['TIMEOUT', 'PEER_ERROR']);
});

describe('verify', () => {
  it('excludes free hints, before and during the migration', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new MemoryTarget();
    const hints = new MigrationHints();
    const free = (): void => hints.hint('pc.ram', { offset: 0n, length: MIB }, 'free');
    let refused: unknown;
    const watch = (source: MigrationSource): void => {
      source.on('phase', (phase) => {
        if (phase !== 'ram') return;
        try {
          free();
        } catch (error) {
          refused = error;
        }
      });
    };
    expect(codes(await migrate(vm, target, { source: { verify: true, hints }, watch }))).toEqual([
      'committed',
      'committed',
    ]);
    expect(refused).toMatchObject({ code: 'INVALID_ARGUMENT' });
    free();
    const again = new MigrationSource(vm, 'rdma:127.0.0.1:1', { verify: true, hints, provider: 'iwarp' });
    await expect(again.migrate()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', phase: 'configure' });
  });
});

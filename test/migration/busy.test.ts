/** A service that has become full since it let a source in: it says so to the source's first message. */
import { describe, expect, it } from 'vitest';
import { type MigrationError, MigrationService, MigrationSource, parseRdmaUri } from '../../lib/index.ts';
import { GateProxy } from '../support/gate-proxy.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';

const BLOCKS = { ram: 1n << 20n };

async function service(): Promise<MigrationService> {
  const open = async () => {
    const target = new MemoryTarget();
    return Object.assign(target, { close: () => target[Symbol.asyncDispose]() });
  };
  return MigrationService.listen('rdma:127.0.0.1:0', open, { maxMigrations: 1, ramIsFresh: true });
}

/** The second source is connected, and speaks when the first has the only place. */
async function late(waitMs: number): Promise<{ notices: string[]; outcome: string }> {
  await using serves = await service();
  serves.serve().catch(() => {});
  const { port } = parseRdmaUri(serves.uri);
  await using gate = await GateProxy.open(port, { holdsFirst: true });
  await using vm = await MemoryVm.create(BLOCKS);
  await using other = await MemoryVm.create(BLOCKS);
  await using source = new MigrationSource(vm, gate.uri, waitMs > 0 ? { waitMs } : {});
  const notices: string[] = [];
  source.on('notice', (_message, { code, details }) => {
    if (code === 'WAITING_FOR_PEER') notices.push(String(details?.why));
  });
  const connected = new Promise<void>((resolve) =>
    source.on('phase', (phase) => {
      if (phase === 'setup') resolve();
    }),
  );
  const moved = source.migrate().then(
    ({ outcome }) => String(outcome),
    ({ code, phase }: MigrationError) => `${code} ${phase}`,
  );
  // One that fails before has its word in the outcome.
  await Promise.race([connected, moved]);
  const taken = new Promise<void>((resolve) => serves.once('migration', () => resolve()));
  let full = (): void => {};
  const held = new Promise<void>((resolve) => {
    full = resolve;
  });
  await using first = new MigrationSource(
    Object.assign(Object.create(other), { beforeCommit: () => held }),
    serves.uri,
  );
  const done = first.migrate();
  done.catch(() => {});
  try {
    await Promise.race([taken, done]);
    gate.release();
    if (waitMs > 0) await expect.poll(() => notices.length, { timeout: 20_000 }).toBeGreaterThan(0);
    else await moved;
  } finally {
    full();
  }
  await done;
  return { notices, outcome: await moved };
}

describe('a service that is full when a source speaks', () => {
  it('is waited for by a source that was told to', async () => {
    const { notices, outcome } = await late(60_000);
    expect(notices).toEqual(['BUSY']);
    expect(outcome).toBe('committed');
  });

  it('is the end of one that was not', async () => {
    expect(await late(0)).toEqual({ notices: [], outcome: 'BUSY setup' });
  });
});

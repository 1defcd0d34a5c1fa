/** A guest that runs while somebody in between harms its protected migration. */
import { expect, it } from 'vitest';
import { MigrationDestination, MigrationError, MigrationSource } from '../../../lib/index.ts';
import { outcome } from '../../support/endings.ts';
import { LiveGuest, MemoryTarget } from '../../support/live-guest.ts';
import { PATIENCE_MS } from '../../support/patience.ts';
import { byUnits, portOf, TcpProxy } from '../../support/tcp-proxy.ts';
import { partOf } from '../../support/wire-units.ts';
import { psk } from './ways.ts';

const LIMITS = { provider: 'iwarp', responseTimeoutMs: 2 * PATIENCE_MS } as const;

it.each([1, 40])('it runs on where record %i of RAM is changed', async (record) => {
  await using vm = await LiveGuest.create();
  await using target = new MemoryTarget();
  const { source, destination } = psk();
  await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    ...LIMITS,
    ...destination,
  });
  const received = outcome(waiting.receive());
  let seen = 0;
  await using proxy = await TcpProxy.open(portOf(waiting.uri), (_, towards) =>
    towards === 'destination'
      ? byUnits((unit) => {
          if (partOf(unit) === 'ram' && seen++ === record)
            unit.bytes.writeUInt8(unit.bytes.readUInt8(100) ^ 1, 100);
          return unit.bytes;
        })
      : undefined,
  );
  const sent = await outcome(new MigrationSource(vm, proxy.uri, { ...LIMITS, ...source }).migrate());
  const there = await received;
  expect(seen).toBeGreaterThan(record);
  for (const end of [sent, there]) expect(end).toBeInstanceOf(MigrationError);
  expect((there as MigrationError).code).toBe('INTEGRITY_ERROR');
  expect([vm.isRunning, target.committed, target.aborted]).toEqual([true, false, true]);
  const writes = vm.writes;
  await expect.poll(() => vm.writes).toBeGreaterThan(writes);
});

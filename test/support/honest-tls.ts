/** A source of ours with credentials, for destinations that have met others before. */
import { expect } from 'vitest';
import { MigrationSource } from '../../lib/index.ts';
import { MemoryVm } from './memory-vm.ts';
import { withDeadline } from './raw-iwarp.ts';
import type { Receiving } from './receiving.ts';

/** A whole migration of a small VM. `uri`: another way to the destination. */
export async function honestTlsMigration(
  received: Receiving,
  creds: string,
  uri = received.destination.uri,
  deadlineMs = 10_000,
): Promise<void> {
  await using vm = await MemoryVm.create({ ram: 1n << 20n });
  const source = new MigrationSource(vm, uri, {
    provider: 'iwarp',
    tls: { creds, hostname: 'server.example' },
    responseTimeoutMs: 20_000,
  });
  const sent = await withDeadline(source.migrate(), 'the migration', deadlineMs);
  expect(sent.outcome).toBe('committed');
  expect(await withDeadline(received.result, 'the result')).toMatchObject({ outcome: 'committed' });
}

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import type { QmpClient, QmpEvent } from '../qmp/client.ts';
import { parsed } from './machine.ts';

const POLL_MS = 5;
const migrateInfo = z.object({ status: z.string().optional(), 'error-desc': z.string().optional() });
const migrationEvent = z.object({ status: z.string() });

export type MigrationInfo = z.infer<typeof migrateInfo>;

/** `query-migrate`: no status when QEMU has not migrated yet. */
export async function queryMigrate(qmp: QmpClient): Promise<MigrationInfo> {
  return parsed(migrateInfo, 'query-migrate', await qmp.execute('query-migrate'));
}

/** Whether QEMU's own migration has ended, or has not begun. */
export function isOver({ status }: MigrationInfo): boolean {
  return status === undefined || ['none', 'completed', 'failed', 'cancelled'].includes(status);
}

/** @throws MigrationError TIMEOUT */
export async function waitUntilOver(qmp: QmpClient, timeoutMs: number): Promise<MigrationInfo> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const info = await queryMigrate(qmp);
    if (isOver(info)) return info;
    if (performance.now() > deadline) {
      const message = `QEMU's own migration is still ${info.status} after ${timeoutMs} ms`;
      throw new MigrationError('TIMEOUT', 'device-state', message, { details: { timeoutMs } });
    }
    await delay(POLL_MS);
  }
}

/**
 * Waits for the event MIGRATION with `completed`, which comes sooner than polling would notice. Needs the capability `events`.
 * @throws MigrationError PEER_ERROR when it failed; CONNECTION_CLOSED when QEMU has ended, as it does when it refuses a stream
 */
export async function completion(events: AsyncIterable<QmpEvent>): Promise<void> {
  for await (const { name, data } of events) {
    if (name !== 'MIGRATION') continue;
    const { status } = parsed(migrationEvent, 'the event MIGRATION', data);
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') break;
  }
  throw new MigrationError('PEER_ERROR', 'device-state', "QEMU's own migration of the device state failed");
}

/** Sets all capabilities that matter, because they outlive a migration. Returns what they were. */
export async function setCapabilities(
  qmp: QmpClient,
  wanted: Readonly<Record<string, boolean>>,
): Promise<Record<string, boolean>> {
  const list = z.array(z.object({ capability: z.string(), state: z.boolean() }));
  const all = parsed(list, 'query-migrate-capabilities', await qmp.execute('query-migrate-capabilities'));
  const current = Object.fromEntries(all.map(({ capability, state }) => [capability, state]));
  const before = all.filter(({ capability }) => Object.hasOwn(wanted, capability));
  // Those that a QEMU does not have are off; without the first nothing of this works.
  const known = Object.entries(wanted).filter(([name, state]) => state || Object.hasOwn(current, name));
  const capabilities = known.map(([capability, state]) => ({ capability, state }));
  await qmp.execute('migrate-set-capabilities', { capabilities });
  return Object.fromEntries(before.map(({ capability, state }) => [capability, state]));
}

/** Device state only (pages of RAM that is mapped shared are left out), with events, over one stream that goes one way. */
export const DEVICE_STATE_ONLY = {
  'x-ignore-shared': true,
  events: true,
  'return-path': false,
  'postcopy-ram': false,
  multifd: false,
  'mapped-ram': false,
  'background-snapshot': false,
  'late-block-activate': false,
} as const;

/** `query-status`. @throws MigrationError GUEST_ERROR; what QMP throws */
export async function runState(qmp: QmpClient): Promise<string> {
  const answer = await qmp.execute('query-status');
  return parsed(z.object({ status: z.string().max(64) }), 'query-status', answer).status;
}

/** `max-bandwidth` of QEMU's own migrations, bytes per second. Returns what it was. */
export async function setBandwidth(qmp: QmpClient, bytesPerSecond: number): Promise<number> {
  const parameters = z.object({ 'max-bandwidth': z.number() });
  const before = parsed(
    parameters,
    'query-migrate-parameters',
    await qmp.execute('query-migrate-parameters'),
  );
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': bytesPerSecond });
  return before['max-bandwidth'];
}

/** Node's diagnostics channels: every migration of the process, for whoever watches the process and not one migration. */
import { channel } from 'node:diagnostics_channel';
import type { MigrationEvent } from './events.ts';
import type { MigrationRole } from './logger.ts';

/** What is published. */
export interface MigrationMessage {
  readonly role: MigrationRole;
  /** The {@link MigrationSource} or {@link MigrationDestination}. */
  readonly migration: object;
  readonly event: MigrationEvent;
}

/** Of every event; of those of one type `rdma-migrate:migration:phase` and so on. */
export const EVENT_CHANNEL = 'rdma-migrate:migration:event';

const all = channel(EVENT_CHANNEL);

/** Costs next to nothing where nobody has subscribed. */
export function publish(message: MigrationMessage): void {
  if (all.hasSubscribers) all.publish(message);
  const one = channel(`rdma-migrate:migration:${message.event.type}`);
  if (one.hasSubscribers) one.publish(message);
}

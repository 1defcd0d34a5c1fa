/** Node's diagnostics channels: every migration of the process, for whoever watches the process and not one migration. */
import { type Channel, channel } from 'node:diagnostics_channel';
import type { MigrationEvent, MigrationEventType } from './events.ts';
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

const named = (type: MigrationEventType): Channel => channel(`rdma-migrate:migration:${type}`);

/**
 * Held for as long as the process lives: a channel that has been collected takes a later one of its name out of Node's table, with all who have subscribed
 * (nodejs/node#59910).
 */
const all = channel(EVENT_CHANNEL);
const each: Readonly<Record<MigrationEventType, Channel>> = {
  phase: named('phase'),
  link: named('link'),
  round: named('round'),
  bytes: named('bytes'),
  zero: named('zero'),
  pin: named('pin'),
  downtime: named('downtime'),
  throttle: named('throttle'),
  notice: named('notice'),
  end: named('end'),
};

/** Costs next to nothing where nobody has subscribed. */
export function publish(message: MigrationMessage): void {
  if (all.hasSubscribers) all.publish(message);
  const one = each[message.event.type];
  if (one.hasSubscribers) one.publish(message);
}

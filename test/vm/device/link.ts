/** The VM's RDMA device, which tests remove and recreate. */
import { setTimeout } from 'node:timers/promises';
import type { Device } from '../arguments.ts';
import { GUEST_ADDRESS } from '../job.ts';
import { run } from './pair.ts';

const DEADLINE_MS = 30_000;

/** What is done to a device takes effect a moment later. */
async function untilLinks(what: string, is: (links: string) => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const links = await run('rdma', 'link');
    if (is(links)) return;
    if (performance.now() > deadline) throw new Error(`the device is not ${what}: ${links}`);
    await setTimeout(200);
  }
}

export async function addDevice(device: Device): Promise<void> {
  await run('rdma', 'link', 'add', `${device}0`, 'type', device, 'netdev', 'eth0');
  await untilLinks('active', (links) => links.includes('state ACTIVE'));
}

/**
 * A new device on a port that is up, whatever happened to the previous one. rxe of Linux 6.1 needs it after its port was down: it stops
 * the connection manager's queue pair if one of its messages finds no route, and makes no connection from then on.
 */
export async function renewDevice(device: Device): Promise<void> {
  await removeDevice(device);
  await run('ip', 'link', 'set', 'eth0', 'up');
  await run('ip', 'address', 'replace', `${GUEST_ADDRESS}/24`, 'dev', 'eth0');
  await run('ip', 'route', 'replace', 'default', 'via', '10.0.2.2');
  await addDevice(device);
}

/** It may already be gone, or about to go. */
export async function removeDevice(device: Device): Promise<void> {
  await run('rdma', 'link', 'delete', `${device}0`).catch(() => undefined);
  await untilLinks('gone', (links) => !links.includes(`${device}0/`));
}

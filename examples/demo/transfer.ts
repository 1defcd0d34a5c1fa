import { setTimeout as delay } from 'node:timers/promises';
import { type MigrationResult, MigrationSource, openImage } from 'rdma-migrate';
import type { DestinationProcess } from '../destination/process.ts';
import type { DemoContext } from './context.ts';
import { bytes, type Narrator, rate } from './narrator.ts';
import type { ReceiverJob } from './receiver.ts';

const PROGRESS_MS = 100;
/** The end of a process is noticed later than the end of its connection. */
const REASON_MS = 500;

export interface Transfer {
  readonly sent: MigrationResult;
  /** An error if the destination did not report its result, although it had confirmed everything. */
  readonly received: MigrationResult | Error;
  readonly uri: string;
  /** The process in which the VM arrived. */
  readonly pid: number;
}

/**
 * Sends the image to a new process over rdma: and reports the result. When it resolves the destination has confirmed that it holds
 * everything; when it fails nothing is left there.
 */
export async function transfer(
  context: DemoContext,
  from: Pick<ReceiverJob, 'image' | 'ramFiles'>,
  placement: Pick<ReceiverJob, 'image' | 'ramFiles'>,
): Promise<Transfer> {
  const { narrator, signal, options } = context;
  const { pinAll, crc } = options;
  narrator.step('Start a second process that waits for a VM');
  await using receiver = await context.startReceiver({ ...placement, crc });
  narrator.say(`process ${receiver.pid} listens at ${receiver.uri}`);
  narrator.step(`Migrate: process ${process.pid} sends RAM and device state to process ${receiver.pid}`);
  await using vm = await openImage(from.image, { signal, ramFiles: from.ramFiles });
  const source = new MigrationSource(vm, receiver.uri, { pinAll, crc, commit: 'require' });
  const watching = showProgress(source, narrator);
  const sent = await source.migrate({ signal }).catch(async (error: unknown) => {
    await sayWhyNotReceived(receiver, narrator);
    throw error;
  });
  await watching;
  // The VM is the destination's from here on: a later failure is no reason to let it go on at the source.
  const received = await receiver.arrived.catch((error: Error) => error);
  tell(narrator, sent);
  return { sent, received, uri: receiver.uri, pid: receiver.pid };
}

async function showProgress(source: MigrationSource, narrator: Narrator): Promise<void> {
  for await (const { phase, ram } of source.progress(PROGRESS_MS)) {
    const done = ram.total - ram.remaining;
    const percent = ram.total > 0 ? Math.floor((100 * done) / ram.total) : 0;
    const speed = rate((ram.mbps * 1e6) / 8, 1000);
    narrator.progress(`${phase.padEnd(12)} ${percent}%  ${bytes(done)} of ${bytes(ram.total)}  ${speed}`);
  }
}

/** If the second process failed first, its reason says more than the broken connection. */
async function sayWhyNotReceived({ arrived }: DestinationProcess, narrator: Narrator): Promise<void> {
  const grace = delay(REASON_MS, undefined, { ref: false });
  const failed = arrived.then(
    () => undefined,
    (error: Error) => error.message,
  );
  const reason = await Promise.race([grace, failed]);
  if (reason !== undefined) narrator.say(reason);
}

/** @throws Error unless both processes have counted the same */
export function requireSameCounts({ sent, received }: Transfer): void {
  if (received instanceof Error) throw received;
  // Zeros that the destination has anyway are not sent, so only the source counts them.
  for (const name of ['normal-bytes', 'total'] as const) {
    if (sent.ram[name] === received.ram[name]) continue;
    throw new Error(`the source counts ${sent.ram[name]} for ${name}, the destination ${received.ram[name]}`);
  }
}

function tell(narrator: Narrator, { ram, ...result }: MigrationResult): void {
  const ramMs = ram.mbps > 0 ? (ram['normal-bytes'] * 8) / ram.mbps / 1000 : 0;
  narrator.say(
    `${bytes(ram['normal-bytes'])} of pages in ${(ramMs / 1000).toFixed(2)} s (${rate(ram['normal-bytes'], ramMs)}), ` +
      `${bytes(ram.duplicate * ram['page-size'])} of zeros, ${bytes(result['device-state-bytes'])} of device state; ` +
      `${(result['total-time'] / 1000).toFixed(2)} s in all`,
  );
  const registration = result['pin-all'] ? 'pin-all' : 'dynamic registration';
  narrator.say(
    `provider ${result.provider} (${result['provider-reason']}), ${registration}, CRC ${result.crc ? 'on' : 'off'}`,
  );
  narrator.say(`outcome: ${result.outcome}, the destination has confirmed that it holds everything`);
}

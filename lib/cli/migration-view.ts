/** A migration's progress and result as people read them. */
import {
  type LiveStatistics,
  MEGABIT_BYTES,
  type MigrationProgress,
  type RamStatistics,
} from '../migration/progress.ts';
import { type TlsFacts, tlsInWords } from '../migration/protection.ts';
import type { MigrationResult } from '../migration/result.ts';
import { coverageLine } from './coverage-view.ts';
import { formatBytes, formatDuration, formatRate } from './format.ts';
import type { BarState, LiveBar } from './reporter.ts';

export function migrationBar(progress: MigrationProgress): BarState {
  const { phase, ram, eta, live } = progress;
  return {
    phase,
    done: ram.total - ram.remaining,
    total: ram.total,
    bytesPerSecond: ram.mbps * MEGABIT_BYTES,
    secondsLeft: eta === undefined ? undefined : eta / 1000,
    ...(live && { live: liveBar(progress.ram, live) }),
  };
}

function liveBar(ram: RamStatistics, live: LiveStatistics): LiveBar {
  const collected = live.verdict !== undefined;
  return {
    round: ram['dirty-sync-count'],
    remaining: ram.remaining,
    sentBytesPerSecond: ram.mbps * MEGABIT_BYTES,
    dirtyBytesPerSecond: collected ? ram['dirty-bytes-rate'] : undefined,
    expectedMs: collected ? live['expected-downtime'] : undefined,
    allowedMs: collected ? live['downtime-limit'] : undefined,
    downtimeMs: live.downtime,
    throttlePercentage: live['cpu-throttle-percentage'],
    verdict: live.verdict,
  };
}

/** `verb`: sent or received. `what`: the image. `direction`: to or from. */
export function migrationSummary(
  verb: 'sent' | 'received',
  what: string,
  result: MigrationResult,
): readonly string[] {
  const { ram } = result;
  const ramSeconds = formatDuration(result['total-time'] - result['setup-time']);
  const rate = formatRate(ram.mbps * MEGABIT_BYTES);
  // A device places what it receives without telling how much that is.
  const counted = verb === 'sent' || result.provider !== 'verbs';
  const content = counted ? ` (${formatBytes(ram['normal-bytes'])} with content, ${rate})` : '';
  const direction = verb === 'sent' ? 'to' : 'from';
  return [
    `${verb} ${what} ${direction} ${result.peer}: ${result.machine}, ${formatBytes(ram.total)} of RAM in ${ramSeconds}` +
      `${content}, ${formatBytes(result['device-state-bytes'])} of device state`,
    `provider ${result.provider}: ${result['provider-reason']}; ${result.channels > 1 ? `${result.channels} channels, ` : ''}${pinning(result)}, ${INTEGRITY[result.integrity]}`,
    ...(result.tls ? [protectionLine(result.tls, result.encrypted)] : []),
    ...(result.coverage && result.outcome !== 'committed'
      ? [coverageLine(result.coverage, 'the source')]
      : []),
    `migration ${result.migrationId}`,
    OUTCOME[verb][result.outcome],
  ];
}

const INTEGRITY: Readonly<Record<MigrationResult['integrity'], string>> = {
  aead: 'checked by what encrypts it',
  crc32c: 'checked by CRC32C',
  device: 'checked by the device',
  none: 'NOT checked but by TCP',
};

function protectionLine(tls: TlsFacts, encrypted: boolean): string {
  const ram = encrypted
    ? 'RAM was encrypted'
    : 'RAM crossed the fabric in CLEAR, messages and device state did not';
  return `${tlsInWords(tls)}; ${ram}`;
}

function pinning(result: MigrationResult): string {
  const budget = result['pin-budget'];
  const peak = `at most ${formatBytes(result['registered-peak'])} registered at a time`;
  if (budget !== undefined) return `pin budget ${formatBytes(budget)}, ${peak}`;
  return `pin-all ${onOff(result['pin-all'])}, ${peak}`;
}

const onOff = (value: boolean): string => (value ? 'on' : 'off');

const OUTCOME = {
  sent: {
    committed:
      'committed: the destination holds the VM and has made it durable. Never run it from here again',
    unconfirmed:
      'unconfirmed: a version 1 destination does not say that it holds the VM. Look at it there before you give it up here',
  },
  received: {
    committed: 'committed: the source knows that the VM is here',
    unconfirmed: 'the VM is here; the source was not told. Do not run it there again',
  },
} as const;

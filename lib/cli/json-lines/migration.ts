/** Where a migration stands, and what has become of it: MigrationProgress and MigrationResult as JSON. */
import { z } from 'zod';
import { count, coverage, migrationId, phase } from './fields.ts';

const verdict = z.enum(['converged', 'converging', 'dirty-rate', 'fixed-costs']);

const ram = z.strictObject({
  transferred: count,
  remaining: count,
  total: count,
  duplicate: count,
  skipped: count,
  normal: count,
  'normal-bytes': count,
  mbps: count,
  'dirty-sync-count': count,
  'page-size': count,
  'dirty-pages-rate': count,
  'dirty-bytes-rate': count,
});

const round = z.strictObject({
  round: count,
  time: count,
  'dirty-pages': count,
  normal: count,
  'normal-bytes': count,
  duplicate: count,
  skipped: count,
  'dirty-pages-rate': count.optional(),
  'collect-time': count.optional(),
  'expected-downtime': count.optional(),
  verdict: verdict.optional(),
  'cpu-throttle-percentage': count,
});

const live = z.strictObject({
  'expected-downtime': count,
  'downtime-limit': count,
  'switchover-bandwidth': count,
  downtime: count.optional(),
  'downtime-parts': z
    .strictObject({ pause: count, collect: count, ram: count, 'device-state': count, commit: count })
    .optional(),
  'cpu-throttle-percentage': count,
  verdict: verdict.optional(),
  rounds: z.array(round),
});

const standing = {
  phase,
  'total-time': count.describe('milliseconds'),
  'setup-time': count.describe('milliseconds'),
  channels: count,
  resumes: count,
  percentage: z.number().min(0).max(100),
  eta: count.optional().describe('milliseconds; absent while it cannot be told'),
  ram,
  live: live.optional(),
};

export const migrationProgress = {
  status: z.enum(['setup', 'active', 'device', 'completed', 'failed', 'cancelled']),
  ...standing,
};

const tls = z.strictObject({
  cipher: z.string(),
  subject: z.string().optional(),
  names: z.array(z.string()).optional(),
  'psk-name': z.string().optional(),
});

export const migrationResult = {
  status: z.literal('completed'),
  ...standing,
  migrationId,
  provider: z.enum(['iwarp', 'verbs']),
  'provider-reason': z.string(),
  peer: z.string(),
  connection: z.string(),
  'peer-extended': z.boolean(),
  'pin-all': z.boolean(),
  crc: z.boolean(),
  integrity: z.enum(['aead', 'crc32c', 'device', 'none']),
  encrypted: z.boolean(),
  tls: tls.optional(),
  'pin-budget': count.optional(),
  'registered-peak': count,
  'resent-bytes': count,
  outcome: z.enum(['committed', 'unconfirmed']),
  coverage: coverage.optional(),
  continued: count.optional().describe('of send --continue: bytes that the destination had already'),
  control: z
    .strictObject({ messages: count, 'ready-wait': count, 'key-wait': count, idle: count })
    .optional()
    .describe('of send'),
  machine: z.string(),
  'device-state-bytes': count,
  image: z.string().optional().describe('absolute path; of send and receive'),
  pid: count.optional().describe('of qemu receive: of the QEMU'),
  qmp: z.string().optional().describe('of qemu receive: its QMP socket'),
};

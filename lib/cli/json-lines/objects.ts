/** The commands that print one object: doctor and image inspect. */
import { z } from 'zod';
import { count, decimal, migrationId } from './fields.ts';

export const doctorReport = z.strictObject({
  version: z.string().describe('of rdma-migrate'),
  ready: z.boolean().describe('a migration over iWARP is possible'),
  checks: z.array(
    z.strictObject({
      name: z.string(),
      title: z.string(),
      status: z.enum(['ok', 'warning', 'missing']),
      found: z.string(),
      remedy: z.string().optional(),
      essential: z.boolean(),
      notes: z.array(z.string()).optional(),
      details: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.array(z.string())])),
    }),
  ),
});

export const imageInspection = z.strictObject({
  path: z.string(),
  machine: z.string(),
  pageSize: count,
  tool: z.string(),
  created: z.string().describe('ISO 8601'),
  provenance: z.strictObject({
    origin: z.enum(['migration', 'qemu-stream']),
    migrationId: migrationId.optional(),
    peer: z.string().optional(),
    provider: z.string().optional(),
    completeness: z.enum(['commit', 'vmdescription', 'none']),
    coverage: z.enum(['with-gaps', 'unknown']).optional(),
  }),
  sent: z
    .union([
      z.strictObject({
        state: z.enum(['committed', 'unconfirmed', 'unknown']),
        migrationId,
        at: z.string().describe('ISO 8601'),
        to: z.string(),
      }),
      z.strictObject({ problem: z.string().describe('why the mark cannot be read') }),
    ])
    .optional()
    .describe('when and where to it was sent'),
  ramBytes: decimal,
  allocatedBytes: decimal,
  blocks: z.array(
    z.strictObject({
      name: z.string(),
      length: decimal,
      allocated: decimal.optional(),
      file: z.string(),
      external: z.boolean(),
      guestAddress: decimal.optional(),
      digest: z.string().optional(),
      problem: z.string().optional(),
    }),
  ),
  deviceStateBytes: decimal,
  devices: z.array(z.strictObject({ name: z.string(), instanceId: count })).optional(),
});

/** What several lines have in common. */
import { z } from 'zod';
import { PHASES } from '../../errors.ts';

/** Bytes, milliseconds, pages. */
export const count = z.number().nonnegative();
/** An integer that may need 64 bits. */
export const decimal = z.string().regex(/^\d+$/).describe('an integer of 64 bits, in decimal');
export const phase = z.enum(PHASES);
export const migrationId = z
  .string()
  .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  .describe('a UUID: which migration; receive --keep says it in every line of a VM');
/** Of an error, or of a notice. */
export const details = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));
export const coverage = z.strictObject({
  state: z.enum(['whole', 'with-gaps', 'unknown']),
  missing: count.describe('bytes'),
  reason: z.string().optional(),
});

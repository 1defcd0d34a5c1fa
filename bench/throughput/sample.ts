/** What a run of `npm run bench` measures. */
import { z } from 'zod';

/** One measurement of one row. */
export const sampleSchema = z.object({
  /** What the row's rate is made from: of a migration the RAM phase or all of it, as its group says. */
  seconds: z.number(),
  /** Of a whole migration, from the call to the result. */
  totalSeconds: z.number().optional(),
  /** Of both ends. */
  cpuSeconds: z.number().optional(),
  /** Queue pairs that carried it. */
  channels: z.int().optional(),
  /** What control messages cost the source; times in milliseconds. */
  control: z
    .object({ messages: z.int(), 'ready-wait': z.number(), 'key-wait': z.number(), idle: z.number() })
    .optional(),
  /** The most memory that the destination's process had resident. */
  peakMiB: z.number().optional(),
});

export const rowSchema = z.object({
  /** Stable: targets and documents name rows by it. */
  id: z.string(),
  label: z.string(),
  kind: z.enum(['limit', 'peer', 'ours']),
  /** That each measurement moves. */
  bytes: z.number(),
  samples: z.array(sampleSchema),
});

export const groupSchema = z.object({
  name: z.string(),
  title: z.string(),
  /** The id of the row that the others are compared with. */
  baseline: z.string(),
  rows: z.array(rowSchema),
  /** What was left out, and why. */
  notes: z.array(z.string()),
});

export const samplesSchema = z.array(groupSchema);

export type Sample = z.infer<typeof sampleSchema>;
export type MeasuredRow = z.infer<typeof rowSchema>;
export type MeasuredGroup = z.infer<typeof groupSchema>;

/** Something to be measured, again and again. */
export interface Row extends Omit<MeasuredRow, 'samples'> {
  measure(): Promise<Sample>;
}

/** Rows that take turns. Closed when they have been measured. */
export interface Group extends AsyncDisposable {
  readonly name: string;
  readonly title: string;
  readonly baseline: string;
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
}

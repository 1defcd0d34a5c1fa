/** What a benchmark leaves behind: its tables, on the terminal and as JSON. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { z } from 'zod';
import { type Table, tableText } from './table.ts';

const column = z.object({ head: z.string(), unit: z.string().optional(), digits: z.int().optional() });
const cell = z.union([z.string(), z.number(), z.null()]);
export const tableSchema = z.object({
  id: z.string(),
  title: z.string(),
  columns: z.array(column),
  rows: z.array(z.array(cell)),
});

const machineSchema = z.object({
  model: z.string(),
  cores: z.int(),
  memoryGiB: z.number(),
  kernel: z.string(),
  node: z.string(),
  /** One minute's, when the run began: above 0.5 or so other work has disturbed it. */
  loadBefore: z.number(),
});

/** The file of `--json`. */
export const reportSchema = z.object({
  format: z.literal('rdma-migrate benchmark 1'),
  bench: z.string(),
  /** ISO 8601 */
  date: z.string(),
  machine: machineSchema,
  /** As they were given. */
  arguments: z.array(z.string()),
  tables: z.array(tableSchema),
  /** What the tables were made from, if the benchmark keeps it. */
  samples: z.unknown().optional(),
});

export type Report = z.infer<typeof reportSchema>;
export type Machine = z.infer<typeof machineSchema>;

export function machineNow(): Machine {
  return {
    model: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Number((totalmem() / 2 ** 30).toFixed(1)),
    kernel: release(),
    node: process.version,
    loadBefore: Number((loadavg()[0] ?? 0).toFixed(2)),
  };
}

export function machineText({ model, cores, memoryGiB, kernel, node, loadBefore }: Machine): string {
  return `${cores} x ${model}, ${memoryGiB} GiB, Linux ${kernel}, Node ${node}, load ${loadBefore} before`;
}

export interface Reported {
  readonly tables: readonly Table[];
  readonly samples?: unknown;
}

/** Prints the tables, and writes `json` if it is a path. `machine`: as it was before the run. */
export async function tell(
  bench: string,
  { tables, samples }: Reported,
  { json, machine }: { json?: string | undefined; machine: Machine },
): Promise<void> {
  console.log(machineText(machine));
  for (const table of tables) console.log(`\n${tableText(table)}`);
  if (json === undefined) return;
  const report = {
    format: 'rdma-migrate benchmark 1',
    bench,
    date: new Date().toISOString(),
    machine,
    arguments: process.argv.slice(2),
    tables,
    ...(samples === undefined ? {} : { samples }),
  };
  await writeFile(json, `${JSON.stringify(report, null, 1)}\n`);
}

/** @throws Error that names the file, when it is no report */
export function readReport(path: string): Report {
  const parsed = reportSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  if (!parsed.success)
    throw new Error(`${path} is no result of a benchmark: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

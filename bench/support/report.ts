/** What a benchmark leaves behind: its tables, on the terminal and as JSON. */
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { basename, isAbsolute } from 'node:path';
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
  /**
   * The kernel gives memory that nobody uses back to the hypervisor (virtio-balloon's free page reporting): who touches it next waits for the
   * hypervisor too, and first touch is then several times as expensive for a large VM as for a small one.
   */
  reportsFreePages: z.boolean().optional(),
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
    reportsFreePages: reportsFreePages(),
  };
}

const VIRTIO = '/sys/bus/virtio/devices';
const VIRTIO_BALLOON = '0x0005';
/** VIRTIO_BALLOON_F_REPORTING (virtio 1.2, 5.5.3); the file has a digit for each feature. */
const REPORTING = 5;

function reportsFreePages(): boolean {
  const read = (device: string, file: string): string =>
    readFileSync(`${VIRTIO}/${device}/${file}`, 'latin1').trim();
  try {
    return readdirSync(VIRTIO).some(
      (device) => read(device, 'device') === VIRTIO_BALLOON && read(device, 'features')[REPORTING] === '1',
    );
  } catch {
    return false;
  }
}

export function machineText(machine: Machine): string {
  const { model, cores, memoryGiB, kernel, node, loadBefore, reportsFreePages } = machine;
  const memory = `${memoryGiB} GiB${reportsFreePages ? ' (free pages go back to the hypervisor)' : ''}`;
  return `${cores} x ${model}, ${memory}, Linux ${kernel}, Node ${node}, load ${loadBefore} before`;
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
    // Where the file is says nothing of the figures.
    arguments: process.argv.slice(2).map((word) => (isAbsolute(word) ? basename(word) : word)),
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

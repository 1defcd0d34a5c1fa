import { inspect, inspectionToJson } from '../image/index.ts';
import { printable } from './format.ts';
import { inspectionLines } from './image-view.ts';
import type { InspectOptions } from './program.ts';

/** `rdma-migrate image inspect`. Needs no addon. What it prints is its result: --quiet changes nothing. */
export async function imageInspect(image: string, { json, ramFile }: InspectOptions): Promise<void> {
  const inspection = await inspect(image, ramFile === undefined ? {} : { ramFiles: ramFile });
  const lines = json ? [inspectionToJson(inspection)] : inspectionLines(inspection).map(printable);
  process.stdout.write(`${lines.join('\n')}\n`);
}

import { inspect, inspectionToJson } from '../image/index.ts';
import { printable } from './format.ts';
import { inspectionLines } from './image-view.ts';
import type { OutputOptions } from './output.ts';

/** `rdma-migrate image inspect`. Needs no addon. What it prints is its result: --quiet changes nothing. */
export async function imageInspect(image: string, { json }: OutputOptions): Promise<void> {
  const inspection = await inspect(image);
  const lines = json ? [inspectionToJson(inspection)] : inspectionLines(inspection).map(printable);
  process.stdout.write(`${lines.join('\n')}\n`);
}

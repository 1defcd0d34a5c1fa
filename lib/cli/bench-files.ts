/** The files of `rdma-migrate bench`. */
import { access, open, readFile, rm, writeFile } from 'node:fs/promises';
import { type BenchResult, benchResultSchema } from '../bench/result.ts';
import { invalid } from '../options/check.ts';

/** More than any result has. */
const MOST_BYTES = 64 << 20;

/** Before anything is measured. Leaves no trace. @throws MigrationError INVALID_ARGUMENT */
export async function checkWritable(path: string): Promise<void> {
  const existed = await access(path).then(
    () => true,
    () => false,
  );
  try {
    await (await open(path, 'a')).close();
    if (!existed) await rm(path);
  } catch (error) {
    throw invalid(`--plot: ${path} cannot be written: ${(error as Error).message}`);
  }
}

/** @throws MigrationError INVALID_ARGUMENT */
export async function writePlot(path: string, picture: string | Uint8Array): Promise<void> {
  try {
    await writeFile(path, picture);
  } catch (error) {
    throw invalid(`--plot: ${path} cannot be written: ${(error as Error).message}`);
  }
}

/** A result among the lines of `--json`, or by itself. @throws MigrationError INVALID_ARGUMENT */
export async function readResult(path: string): Promise<BenchResult> {
  const text = await readText(path);
  const candidates = [text, ...text.split('\n')].map(parsed);
  const found = candidates.find((value) => value?.format === 'rdma-migrate-bench');
  if (found === undefined) throw invalid(`--from: there is no result of rdma-migrate bench in ${path}`);
  const read = benchResultSchema.safeParse(found);
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  throw invalid(
    `--from: ${path} is no result that this release knows: ${issue?.path.map(String).join('.')}: ${issue?.message}`,
  );
}

async function readText(path: string): Promise<string> {
  try {
    const bytes = await readFile(path);
    if (bytes.length <= MOST_BYTES) return bytes.toString('utf8');
  } catch (error) {
    throw invalid(`--from: ${path} cannot be read: ${(error as Error).message}`);
  }
  throw invalid(`--from: ${path} is larger than any result`);
}

function parsed(text: string): { format?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

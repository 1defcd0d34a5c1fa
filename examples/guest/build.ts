import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { MigrationError } from 'rdma-migrate';
import { LOAD_ADDRESS, PAGE_SIZE } from './layout.ts';

const run = promisify(execFile);
const TOOL_TIMEOUT_MS = 30_000;

export interface GuestBuildOptions {
  /** The file to write; QEMU takes it as `-kernel`. */
  readonly output: string;
  /** How much RAM the guest changes at most, in bytes from 2 MiB on; a multiple of 4096. Default: all RAM below 3 GiB. */
  readonly regionBytes?: number;
}

/** guest.S is in the package, whether this module runs as TypeScript or compiled somewhere below the package's root. */
function guestSource(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return join(folder, 'examples', 'guest', 'guest.S');
}

/** The possible names of a tool that makes x86 code: on other machines only the cross tool will do. */
function toolNames(tool: 'as' | 'ld'): string[] {
  const cross = `x86_64-linux-gnu-${tool}`;
  return process.arch === 'x64' ? [tool, cross] : [cross];
}

function missing(names: readonly string[]): MigrationError {
  const debianPackage = process.arch === 'x64' ? 'binutils' : 'binutils-x86-64-linux-gnu';
  const message = `${names.join(' or ')} is not installed, so the guest cannot be built: apt-get install ${debianPackage}`;
  return new MigrationError('IO_ERROR', 'configure', message);
}

function failed(name: string, cause: Error & { stderr?: string }): MigrationError {
  const message = `${name} could not build the guest: ${cause.stderr?.trim() || cause.message}`;
  return new MigrationError('IO_ERROR', 'configure', message, { cause });
}

async function runTool(tool: 'as' | 'ld', args: readonly string[]): Promise<void> {
  const names = toolNames(tool);
  for (const name of names) {
    try {
      await run(name, args, { timeout: TOOL_TIMEOUT_MS });
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw failed(name, cause as Error);
    }
  }
  throw missing(names);
}

function regionPages(bytes: number | undefined): number {
  if (bytes === undefined) return 0;
  if (Number.isSafeInteger(bytes) && bytes > 0 && bytes % PAGE_SIZE === 0) return bytes / PAGE_SIZE;
  const message = `regionBytes must be a positive multiple of ${PAGE_SIZE} but is ${bytes}`;
  throw new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

/**
 * Assembles and links the guest with the C++ toolchain's `as` and `ld`.
 *
 * @throws MigrationError `INVALID_ARGUMENT` for a bad size, `IO_ERROR` when a tool is missing (the message names its package) or
 * fails.
 */
export async function buildGuest({ output, regionBytes }: GuestBuildOptions): Promise<void> {
  const pages = regionPages(regionBytes);
  const object = `${output}.o`;
  try {
    await runTool('as', ['--32', '--defsym', `REGION_PAGES=${pages}`, '-o', object, guestSource()]);
    const link = ['-m', 'elf_i386', '--oformat', 'binary', '-Ttext', `0x${LOAD_ADDRESS.toString(16)}`];
    await runTool('ld', [...link, '-o', output, object]);
  } finally {
    await rm(object, { force: true });
  }
}

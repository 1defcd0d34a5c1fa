/**
 * What the VM has in its memory instead of on a share of this machine: everything that our programs load. Each access to a file on a
 * share is a message to this machine and back, and under emulation that is most of a program's start-up time.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CHECKOUT } from './checkout.ts';
import { tool } from './tool.ts';

/** Folders that guest/start.sh covers. */
const FOLDERS = ['dist', 'build/node', 'build/Release'];

/** The packages in npm's lock file in node_modules that users have too. */
export function runtimePackages(lockFile: string): string[] {
  const { packages } = JSON.parse(lockFile) as { packages: Record<string, { dev?: boolean }> };
  return Object.keys(packages).filter((path) => path.startsWith('node_modules/') && !packages[path]?.dev);
}

export async function packMemory(file: string): Promise<void> {
  const lockFile = await readFile(join(CHECKOUT, 'node_modules/.package-lock.json'), 'utf8');
  const paths = [...FOLDERS, ...runtimePackages(lockFile)].filter((path) => existsSync(join(CHECKOUT, path)));
  await tool('tar', ['-cf', file, '-C', CHECKOUT, ...paths]);
}

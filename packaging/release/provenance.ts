/** What a release was made of and by what, for whoever wants to know or to make it again. A note: nothing here is signed. */
import { readFile } from 'node:fs/promises';
import type { PrebuildRecord } from '../prebuild/record.ts';
import { runTool, systemName } from '../support/run.ts';

export interface Provenance {
  readonly name: string;
  readonly version: string;
  /** Of git. Absent in a dry run: what it packs is no commit. */
  readonly commit?: string;
  /** What the commit, or a dry run, was made from. */
  readonly base: string;
  /** Of the commit; the dates in the man pages are of it. */
  readonly sourceDateEpoch: number;
  readonly signed: false;
  readonly tools: Readonly<Record<'node' | 'npm' | 'typescript' | 'system', string>>;
  readonly prebuilds: readonly PrebuildRecord[];
}

/** Of this machine, and the compiler of TypeScript in the folder. */
export async function toolsOf(folder: string): Promise<Provenance['tools']> {
  const typescript = await readFile(`${folder}/node_modules/typescript/package.json`, 'utf8');
  return {
    node: process.version,
    npm: (await runTool('npm', '--version')).trim(),
    typescript: (JSON.parse(typescript) as { version: string }).version,
    system: await systemName(),
  };
}

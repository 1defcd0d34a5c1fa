import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { withDeadline } from '../../support/raw-iwarp.ts';

const DEADLINE_MS = 30_000;

/** The rest of the first line that begins like this. */
export async function lineOf(child: ChildProcess, beginning: string): Promise<string> {
  if (!child.stdout) throw new Error('no stdout');
  const lines = createInterface(child.stdout);
  const found = new Promise<string>((resolve, reject) => {
    lines.on('line', (line) => line.startsWith(beginning) && resolve(line.slice(beginning.length)));
    lines.on('close', () => reject(new Error(`the child ended before it said '${beginning}'`)));
  });
  return withDeadline(found, `'${beginning}'`, DEADLINE_MS);
}

export async function kill(child: ChildProcess): Promise<void> {
  const gone = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
  child.kill('SIGKILL');
  await gone;
}

/** Samples processes with perf while something runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { ownChild, ownPath, removePath } from '../support/leftovers.ts';
import { output } from '../support/program.ts';

const FREQUENCY = '297';
/** Bytes of each sample's stack that perf unwinds. */
const STACK = 'dwarf,8192';
/** The longest that perf may take to begin: on a busy machine seconds. */
const BEGIN_MS = 60_000;

function record(pids: readonly number[], data: string) {
  const events = ['-e', 'cpu-clock', '-F', FREQUENCY, '--call-graph', STACK, '-p', pids.join()];
  const args = ['record', '-q', '-o', data, ...events, '-D', '-1', '--control', 'fd:3,4'];
  return ownChild(spawn('perf', args, { stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'] }));
}

/** perf says when it has begun; interrupted before, it leaves nothing that could be read. @throws Error it has ended, or says nothing */
async function begin(orders: Writable, answers: Readable, ended: Promise<unknown>): Promise<void> {
  orders.on('error', () => {}); // its end says more
  orders.write('enable\n');
  const begun = once(answers, 'data', { signal: AbortSignal.timeout(BEGIN_MS) }).catch(() => {
    throw new Error(`perf has not begun within ${BEGIN_MS / 1000} s`);
  });
  const failed = ended.then(() => {
    throw new Error('perf has ended before it began (kernel.perf_event_paranoid may forbid it)');
  });
  await Promise.race([begun, failed]);
}

/** The script of what was sampled while `work` ran, as {@link treeOf} reads it. @throws Error perf could not */
export async function sampled(pids: readonly number[], work: () => Promise<void>): Promise<string> {
  const folder = ownPath(await mkdtemp(join(tmpdir(), 'rdma-migrate-profile-')));
  const data = join(folder, 'perf.data');
  try {
    const perf = record(pids, data);
    const ended = once(perf, 'exit');
    await begin(perf.stdio[3] as Writable, perf.stdio[4] as Readable, ended);
    await work();
    perf.kill('SIGINT');
    await ended;
    return await output('perf', ['script', '-i', data, '-F', 'pid,comm,tid,ip,sym', '--no-inline']);
  } finally {
    removePath(folder);
  }
}

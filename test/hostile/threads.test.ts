/** A machine that gives the process no further thread. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('an operation that cannot have its thread fails, and the process goes on', async (context) => {
  if (process.geteuid?.() !== 0) context.skip('only root can become a user with a limit of its own');
  const child = fileURLToPath(new URL('./children/no-threads.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [child], { timeout: 50_000 });
  expect(JSON.parse(stdout)).toEqual({
    connect: 'CONNECTION_REFUSED', // by nobody who listens there: it takes no thread
    mapMemfd: 'RESOURCE_LIMIT',
    close: 'done', // on the thread that is there
    createConnection: 'RESOURCE_LIMIT',
    listen: 'RESOURCE_LIMIT',
    threads: expect.stringMatching(/ulimit -u.*TasksMax.*pids\.max/),
  });
});

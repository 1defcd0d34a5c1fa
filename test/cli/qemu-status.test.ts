/** What `qemu status` says of a record whose processes cannot be looked for here. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { qemuStatus } from '../../lib/cli/qemu-status.ts';
import { pidNamespace, Records } from '../../lib/qemu/records.ts';

const ID = '6f1c1b1e-5b0e-4a6e-9a55-0f3c3f0a9d11';

/** Of a receiver and a QEMU that are no processes here. */
async function told(namespace: string): Promise<{ facts: unknown; text: string }> {
  const stateDir = await mkdtemp(join(tmpdir(), 'rdma-migrate-status-'));
  const all: { facts: unknown; text: string }[] = [];
  const reporter = {
    completed: (facts: unknown, lines: string[]) => all.push({ facts, text: lines.join('\n') }),
  };
  try {
    const gone = { pid: process.pid, start: '1' };
    const qemu = { ...gone, qmp: '/q' };
    const record = { migrationId: ID, receiver: gone, pidNamespace: namespace, qemu };
    await new Records(stateDir).write({ ...record, state: 'receiving' });
    await qemuStatus({ reporter } as never, ID, undefined, { stateDir } as never);
  } finally {
    await rm(stateDir, { recursive: true, force: true });
  }
  return all[0] as { facts: unknown; text: string };
}

it('says of processes of another PID namespace neither that they have ended nor that they are to be ended', async () => {
  const { facts, text } = await told('pid:[1]');
  expect(facts).toEqual({ migrationId: ID, status: 'undecided', pid: process.pid, qmp: '/q' });
  expect(text).toContain('in another PID namespace');
  expect(text).not.toMatch(/has ended$|end process/m);
  const here = await told(await pidNamespace());
  expect(here.facts).toMatchObject({ status: 'not-taken', alive: false, left: false });
});

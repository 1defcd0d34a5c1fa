/** What `qemu status` says of a record whose receiver has not decided. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qemuStatus } from '../../lib/cli/qemu-status.ts';
import { describeSelf, type Owner } from '../../lib/owner.ts';
import { type MigrationRecord, Records } from '../../lib/qemu/records.ts';

const ID = '6f1c1b1e-5b0e-4a6e-9a55-0f3c3f0a9d11';
const gone = { pid: process.pid, startTime: '1' };

let stateDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'rdma-migrate-status-'));
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

interface Answer {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** Of a receiver that has ended. */
async function told(
  state: MigrationRecord['state'],
  { at, qemu }: { at?: Partial<Owner>; qemu?: Partial<MigrationRecord['qemu']> } = {},
): Promise<Answer> {
  const all: Answer[] = [];
  const reporter = {
    completed: (facts: Answer['facts'], lines: string[]) => all.push({ facts, text: lines.join('\n') }),
  };
  const receiver = { ...(await describeSelf()), ...gone, ...at };
  const record = { migrationId: ID, receiver, state, qemu: { ...gone, qmp: '/q', ...qemu } };
  await new Records(stateDir).write(record);
  const { signal } = new AbortController();
  await qemuStatus({ reporter, signal } as never, ID, undefined, { stateDir } as never);
  return all[0] as Answer;
}

it('says of processes of another PID namespace or host neither that they have ended nor that they are to be ended', async () => {
  for (const at of [{ pidNamespace: 'pid:[1]' }, { bootId: 'another', machineId: '0'.repeat(32) }]) {
    const { facts, text } = await told('receiving', { at });
    expect(facts).toEqual({ migrationId: ID, status: 'undecided', pid: process.pid, qmp: '/q' });
    expect(text).toContain('on another host, in another container');
    expect(text).not.toMatch(/has ended$|end process/m);
    // What was decided there is decided.
    const decided = await told('taken', { at });
    expect(decided.facts).toMatchObject({ status: 'taken' });
    expect(decided.text).not.toContain('whether the guest has run');
  }
  const here = await told('receiving');
  expect(here.facts).toMatchObject({ status: 'not-taken', alive: false, left: false });
});

describe('of a guest that was just to go on when its rdma-migrate was killed', () => {
  /** A QEMU that says so, in the place of this process. */
  async function saidBy(status: string | undefined): Promise<Answer> {
    const { pid, startTime } = await describeSelf();
    const qmp = join(stateDir, 'qmp');
    const server = createServer((socket) => {
      const say = (what: object) => socket.write(`${JSON.stringify(what)}\r\n`);
      const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: '' };
      say({ QMP: { version, capabilities: [] } });
      createInterface({ input: socket }).on('line', (line) => {
        const { execute, id } = JSON.parse(line);
        const answer = execute === 'query-status' ? { status, running: status === 'running' } : {};
        say({ id, return: answer });
      });
    });
    if (status !== undefined) await once(server.listen(qmp), 'listening');
    try {
      return await told('starting', { qemu: { pid, startTime, qmp } });
    } finally {
      server.close();
    }
  }

  it('asks its QEMU, and writes down that the guest runs', async () => {
    const { facts, text } = await saidBy('running');
    expect(facts).toMatchObject({ status: 'taken', alive: true, left: false, guest: 'running' });
    expect(text).toContain('End the QEMU at the source');
    expect(await new Records(stateDir).read(ID)).toMatchObject({ state: 'taken' });
  });

  it('leaves it to the operator where the guest does not run, or QEMU does not answer', async () => {
    for (const [status, said] of [
      ['paused', /QEMU says paused/],
      [undefined, /QEMU says not known: /],
    ] as const) {
      const { facts, text } = await saidBy(status);
      expect(facts).toMatchObject({ status: 'undecided', alive: true, left: true });
      expect(text).toMatch(said);
      expect(await new Records(stateDir).read(ID)).toMatchObject({ state: 'starting' });
    }
  });

  it('says that it may have run where its QEMU has ended too', async () => {
    const { facts, text } = await told('starting');
    expect(facts).toMatchObject({ status: 'undecided', alive: false, left: true });
    expect(text).toContain('may have run here');
  });
});

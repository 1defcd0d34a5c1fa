/** What a source keeps a record of is written before it may be true. */
import { describe, expect, it } from 'vitest';
import { MigrationError, type SourceOptions, type SourceVm } from '../../lib/index.ts';
import { MemoryTarget, MemoryVm, migrateMemory } from '../support/memory-vm.ts';

const MIB = 1n << 20n;

interface Story {
  readonly told: readonly string[];
  readonly outcome: unknown;
}

/** One migration; `told` is what happened at both ends, in order. */
async function story(
  beforeCommit: SourceVm['beforeCommit'],
  { commit = 'auto', ...options }: SourceOptions = {},
): Promise<Story> {
  const told: string[] = [];
  await using memory = await MemoryVm.create({ 'pc.ram': MIB });
  await using target = new MemoryTarget();
  target.commit = async () => void told.push('commit');
  target.abort = async () => void told.push('abort');
  const vm: SourceVm = {
    ...memory,
    after: () => memory.after(),
    beforeCommit: async (id) => {
      told.push(`asked ${id}`);
      await beforeCommit?.(id);
      told.push('ready');
    },
  };
  const outcome = await migrateMemory(vm, target, { ...options, commit }, { commit }).then(
    ({ source }) => {
      const asked = told.indexOf(`asked ${source.migrationId}`);
      if (asked >= 0) told[asked] = 'asked';
      return source.outcome;
    },
    (error: unknown) => error,
  );
  return { told, outcome };
}

describe.each([
  ['auto', 'committed'],
  ['off', 'unconfirmed'],
] as const)('a VM that is told before it is handed over, with commit %s,', (commit, outcome) => {
  it('hears of the migration once, and nothing goes on until it has answered', async () => {
    const slow = () => new Promise<void>((resolve) => setTimeout(resolve, 50));
    expect(await story(slow, { commit })).toEqual({ told: ['asked', 'ready', 'commit'], outcome });
  });

  it('ends the migration when it refuses, and nothing is kept at the destination', async () => {
    const error = new MigrationError('DISK_FULL', 'image', 'no room for a mark');
    const { told, outcome: failure } = await story(() => Promise.reject(error), { commit });
    expect(failure).toBe(error);
    expect(told).not.toContain('commit');
  });

  it('has the time that any answer has', async () => {
    const { told, outcome: failure } = await story(() => new Promise(() => {}), {
      commit,
      responseTimeoutMs: 300,
    });
    expect(failure).toMatchObject({ code: 'TIMEOUT', details: { waitingFor: 'vmm' } });
    expect(told).not.toContain('commit');
  });
});

/** The id of a migration: at both ends, in the image, and in the error from which nobody knows who has the VM. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  type Arrival,
  type DestinationTarget,
  ImageWriter,
  inspect,
  MigrationError,
  type MigrationResult,
} from '../../lib/index.ts';
import { migrate } from '../support/endings.ts';
import { MemoryVm } from '../support/memory-vm.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { temporaryFolder } from '../support/temp.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const MIB = 1n << 20n;

/** An image whose `commit` is what it is told to be. */
function target(writer: ImageWriter, commit: (arrival: Arrival) => Promise<void>): DestinationTarget {
  return {
    ramIsFresh: true,
    allocate: (vm) => writer.allocate(vm),
    append: (bytes) => writer.append(bytes),
    commit,
    abort: () => writer.abort(),
  };
}

it('is the same at both ends and in the image, and another each time', async () => {
  await using folder = await temporaryFolder();
  await using vm = await MemoryVm.create({ 'pc.ram': MIB });
  const ids: string[] = [];
  for (const name of ['one', 'two']) {
    const path = join(folder.path, name);
    await using writer = await ImageWriter.open(path);
    let before: string | undefined;
    const watch: NonNullable<Parameters<typeof migrate>[2]>['watch'] = (source) => {
      before = source.migrationId;
    };
    const { sent, received } = (await migrate(vm, writer, { watch })) as Record<
      'sent' | 'received',
      MigrationResult
    >;
    const { provenance } = await inspect(path);
    const same = [sent.migrationId, received.migrationId, provenance.migrationId, before];
    expect(new Set(same).size).toBe(1);
    ids.push(sent.migrationId);
  }
  expect(ids[0]).toMatch(UUID);
  expect(ids[0]).not.toBe(ids[1]);
});

describe('with COMMIT_UNKNOWN', () => {
  it('at the source, the error and the image of the destination have it', async () => {
    await using folder = await temporaryFolder();
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    const path = join(folder.path, 'vm');
    await using writer = await ImageWriter.open(path);
    const late = target(writer, async (arrival) => {
      await writer.commit(arrival);
      await new Promise((resolve) => setTimeout(resolve, 1_500));
    });
    const { sent } = await migrate(vm, late, { source: { commitTimeoutMs: 500 } });
    expect(sent).toMatchObject({
      code: 'COMMIT_UNKNOWN',
      details: { migrationId: expect.stringMatching(UUID) },
    });
    const { migrationId } = (sent as MigrationError).details;
    expect((await inspect(path)).provenance.migrationId).toBe(migrationId);
    expect((sent as MigrationError).message).toContain(`This is migration ${migrationId}`);
  });

  it('at the destination, the error has what the source was told', async () => {
    await using folder = await temporaryFolder();
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using writer = await ImageWriter.open(join(folder.path, 'vm'));
    const unknown = target(writer, async () => {
      throw new MigrationError('COMMIT_UNKNOWN', 'image', 'who knows');
    });
    const { sent, received } = (await migrate(vm, unknown)) as Record<'sent' | 'received', MigrationError>;
    expect([sent.code, received.code]).toEqual(['COMMIT_UNKNOWN', 'COMMIT_UNKNOWN']);
    expect(received.details.migrationId).toBe(sent.details.migrationId);
    expect(received.details.migrationId).toMatch(UUID);
  });

  it('only: another failure says nothing of it', async () => {
    await using folder = await temporaryFolder();
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using writer = await ImageWriter.open(join(folder.path, 'vm'));
    const full = target(writer, async () => {
      throw new MigrationError('DISK_FULL', 'image', 'no room');
    });
    const { sent, received } = (await migrate(vm, full)) as Record<'sent' | 'received', MigrationError>;
    for (const { code, details } of [sent, received]) {
      expect(code).not.toBe('COMMIT_UNKNOWN');
      expect(details).not.toHaveProperty('migrationId');
    }
  });
});

it('of a version 1 source is the destination’s own, in result and image', async () => {
  await using waiting = await receiving({}, { external: false });
  await using source = await ScriptedSource.connect(waiting.port);
  await source.reach('device');
  await source.say('QEMU_FILE', source.restOfDeviceState());
  source.peer.finish();
  const { migrationId, outcome } = await waiting.result;
  expect(outcome).toBe('unconfirmed');
  expect(migrationId).toMatch(UUID);
  expect((await inspect(waiting.path)).provenance.migrationId).toBe(migrationId);
});

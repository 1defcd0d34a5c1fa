/** Pin budgets with a peer that knows none, or does not keep to one. */
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { MigrationSource, openImage } from '../../lib/index.ts';
import { controlMessage, registerCommand } from '../support/raw-control.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedDestination } from '../support/scripted-destination.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { smallImage, sourceFails } from '../support/sending.ts';
import { SMALL_BLOCKS } from '../support/small-vm.ts';
import { temporaryFolder } from '../support/temp.ts';

const MIB = 1n << 20n;
const folder = await temporaryFolder();
afterAll(() => folder[Symbol.asyncDispose]());
const image = await smallImage(join(folder.path, 'vm'));

const BLOCKS = SMALL_BLOCKS.map(({ length }, index) => ({
  address: 0x7f00_0000_0000n + BigInt(index) * 0x1000_0000n,
  offset: BigInt(index) * 0x1000_0000n,
  length,
  rkey: 77 + index,
}));

const registerAll = registerCommand({ key: 0n, index: 0, chunks: 3n });

describe('a destination with a budget', () => {
  it('fails a version 1 source that passes it, with both numbers, when it was told to fail', async () => {
    await using received = await receiving({ pinBudget: 2n * MIB, onPinLimit: 'fail' });
    await using source = await ScriptedSource.connect(received.port);
    await source.reach('ram');
    await source.say('REGISTER_REQUEST', registerAll);
    const error = await received.fails('LOCKED_MEMORY_LIMIT', 'ram');
    expect(error.details).toMatchObject({ needed: 0x31_0000n, limit: 2n * MIB });
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
  });

  it('lets a version 1 source be where nothing is pinned', async () => {
    await using received = await receiving({ pinBudget: 2n * MIB });
    await using source = await ScriptedSource.connect(received.port);
    await source.reach('ram');
    await source.say('REGISTER_REQUEST', registerAll);
    await source.expect('REGISTER_RESULT');
  });

  it('holds a source that was told to it', async () => {
    await using received = await receiving({ pinBudget: 2n * MIB });
    await using source = await ScriptedSource.connect(received.port, { commit: true, pinBudget: 4n * MIB });
    await source.reach('registered'); // two chunks
    const third = registerCommand({ key: source.block(0).offset + 2n * MIB, index: 0, chunks: 0n });
    await source.say('REGISTER_REQUEST', third);
    const error = await received.fails('PROTOCOL_ERROR', 'ram');
    expect(error.details).toMatchObject({ needed: 3n * MIB, limit: 2n * MIB });
  });

  it('counts what was given back', async () => {
    await using received = await receiving({ pinBudget: 2n * MIB });
    await using source = await ScriptedSource.connect(received.port, { commit: true, pinBudget: 4n * MIB });
    await source.reach('registered');
    for (let round = 0; round < 5; round++) {
      await source.say('UNREGISTER_REQUEST', registerCommand({ key: 0n, index: 0, chunks: 1n }));
      await source.expect('UNREGISTER_FINISHED');
      await source.register();
    }
    // Twice, and what never was: nothing to do, and no room gained.
    for (const key of [0n, 0n, 3n]) {
      await source.say('UNREGISTER_REQUEST', registerCommand({ key, index: 0, chunks: 0n }));
      await source.expect('UNREGISTER_FINISHED');
    }
    await source.register();
    await source.say(
      'REGISTER_REQUEST',
      registerCommand({ key: source.block(1).offset, index: 1, chunks: 0n }),
    );
    await received.fails('PROTOCOL_ERROR', 'ram');
  });

  it('declines pin-all of a version 1 source', async () => {
    await using received = await receiving({ pinBudget: 2n * MIB });
    await using source = await ScriptedSource.connect(received.port, { pinAll: true });
    await source.reach('announced');
    expect(source.blocks.map(({ rkey }) => rkey)).toEqual([0, 0]);
  });

  it.each(['REGISTER_REQUEST', 'UNREGISTER_REQUEST'] as const)(
    'refuses a %s that says more than it carries',
    async (type) => {
      await using received = await receiving({ pinBudget: 2n * MIB });
      await using source = await ScriptedSource.connect(received.port, { commit: true, pinBudget: 4n * MIB });
      await source.reach('ram');
      source.peer.send(controlMessage(type, registerAll, { repeat: 4096 }));
      await received.fails('PROTOCOL_ERROR', 'ram');
    },
  );
});

describe('a source with a budget', () => {
  it.each([2n * MIB, 3n * MIB])('of %i bytes keeps to the rules of a stock QEMU', async (pinBudget) => {
    await using listener = await RawListener.open();
    const destination = new ScriptedDestination({ blocks: BLOCKS });
    const served = destination.serve(listener);
    served.catch(() => {});
    await using vm = await openImage(image);
    const sent = new MigrationSource(vm, listener.uri, { pinBudget, responseTimeoutMs: 10_000 }).migrate();
    sent.catch(() => {});
    await withDeadline(served, 'the end of the migration', 20_000);
    expect(await sent).toMatchObject({ outcome: 'unconfirmed', 'pin-budget': Number(pinBudget) });
    expect(destination.peak).toBeLessThanOrEqual(pinBudget);
    for (const index of [0, 1]) expect(destination.missing(index)).toBe(0n);
  });

  it('fails with a destination whose budget holds not even two spans, before anything is sent', async () => {
    await using listener = await RawListener.open();
    const destination = new ScriptedDestination({ blocks: BLOCKS, commit: true, pinBudget: MIB });
    const served = destination.serve(listener).catch(() => {});
    const error = await sourceFails(image, listener.uri, 'LOCKED_MEMORY_LIMIT', 'negotiate');
    expect(error.details).toMatchObject({ needed: 2n * MIB, limit: MIB });
    await served;
    expect(destination.received.map(({ type }) => type)).toEqual(['ERROR']);
  });
});

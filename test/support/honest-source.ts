/** A source that does everything right, for destinations that have met others before. */
import { expect } from 'vitest';
import { withDeadline } from './raw-iwarp.ts';
import type { Receiving } from './receiving.ts';
import { ScriptedSource } from './scripted-source.ts';

/** From the first message of a source that is connected to the end of its migration. */
export async function finishMigration(received: Receiving, source: ScriptedSource): Promise<void> {
  await source.reach('stream-done');
  await source.say('COMMIT', source.account.commit());
  expect((await source.expect('COMMITTED')).data.readUInt32BE(0)).toBe(0);
  source.peer.finish();
  expect(await withDeadline(received.result, 'the result')).toMatchObject({ outcome: 'committed' });
}

/** A whole migration: the destination must have gone on waiting for it. */
export async function honestMigration(received: Receiving): Promise<void> {
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await finishMigration(received, source);
}

/** A source that goes on writing after it has asked for the commit: nothing of it lands in a VM that is kept. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import {
  MigrationDestination,
  type MigrationError,
  type MigrationResult,
  type RamBlock,
} from '../../lib/index.ts';
import { Committing, outcome } from '../support/endings.ts';
import { peek } from '../support/memory-vm.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { nameOf, ScriptedSource } from '../support/scripted-source.ts';

const LENGTH = 100_000n;

/** What is in the RAM that the scripted source writes to. */
const written = (target: Committing): Promise<Buffer> => peek(target.blocks[0] as RamBlock, 4096n, LENGTH);

interface Asked {
  readonly source: ScriptedSource;
  readonly ended: Promise<MigrationResult | MigrationError>;
}

/** A destination of this target, and a source that has sent all and is about to ask for the commit. */
async function asking(target: Committing, body: (asked: Asked) => Promise<void>): Promise<void> {
  const limits = { provider: 'iwarp', responseTimeoutMs: 5_000 } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, limits);
  const ended = outcome(destination.receive());
  const port = Number(destination.uri.split(':').at(-1));
  await using source = await ScriptedSource.connect(port, { commit: true });
  await source.reach('stream-done');
  await body({ source, ended });
}

const overwrite = (source: ScriptedSource): void =>
  source.peer.write(source.rkey, source.block(0).address + 4096n, Buffer.alloc(Number(LENGTH), 0xbd));

it('a WRITE that comes while the target commits is refused', async () => {
  let source: ScriptedSource | undefined;
  await using target = new Committing(async () => {
    overwrite(source as ScriptedSource);
    await delay(300);
  });
  await asking(target, async (asked) => {
    source = asked.source;
    await source.say('COMMIT', source.account.commit());
    const said = (await source.peer.untilEnd()).map(nameOf);
    expect(said).toContain('TERMINATE 0/1/2');
    expect(await withDeadline(asked.ended, 'the end')).toMatchObject({ status: 'completed' });
    expect((await written(target)).equals(Buffer.alloc(Number(LENGTH), 0x5a))).toBe(true);
  });
});

it('a WRITE right after the COMMIT either counts, which is refused, or does not land', async () => {
  const content: Buffer[] = [];
  await using target = new Committing(async () => {
    content.push(await written(target));
    await delay(100);
    content.push(await written(target));
  });
  await asking(target, async ({ source, ended }) => {
    await source.say('COMMIT', source.account.commit());
    overwrite(source);
    const end = await withDeadline(ended, 'the end');
    if ('status' in end) {
      expect(content.map((bytes) => bytes.equals(Buffer.alloc(Number(LENGTH), 0x5a)))).toEqual([true, true]);
    } else {
      expect([end.code, content]).toEqual(['COMMIT_MISMATCH', []]);
    }
  });
});

it('what does not match is the reason, though a WRITE that is refused breaks the link before the answer', async () => {
  await using target = new Committing(async () => {});
  await asking(target, async ({ source, ended }) => {
    const commit = source.account.commit();
    const { peer } = source;
    await source.ready();
    // All in one: the link is broken when the destination has only begun to compare.
    const frames: Buffer[] = [];
    const raw = peer.raw.bind(peer);
    peer.raw = (bytes) => void frames.push(Buffer.from(bytes));
    overwrite(source);
    await source.say('COMMIT', commit);
    peer.write(source.rkey + 1, source.block(0).address, Buffer.alloc(64));
    peer.raw = raw;
    raw(Buffer.concat(frames));
    const end = await withDeadline(ended, 'the end');
    expect(end).toMatchObject({ code: 'COMMIT_MISMATCH', details: { status: 'COUNT_MISMATCH' } });
    expect(end).toMatchObject({ cause: { code: 'REMOTE_ACCESS_ERROR' } });
  });
});

it('a WRITE of which half came before the comparison does not go on after it', async () => {
  await using target = new Committing(async () => {});
  await asking(target, async ({ source, ended }) => {
    const commit = source.account.commit();
    // Its first segment, and half of its second.
    const frames: Buffer[] = [];
    const { peer } = source;
    const raw = peer.raw.bind(peer);
    peer.raw = (bytes) => void frames.push(Buffer.from(bytes));
    overwrite(source);
    peer.raw = raw;
    const bytes = Buffer.concat(frames);
    await source.say('COMMIT', commit);
    raw(bytes.subarray(0, 50_000));
    const end = await withDeadline(ended, 'the end');
    raw(bytes.subarray(50_000));
    const before = await written(target);
    await delay(200);
    expect((await written(target)).equals(before)).toBe(true);
    if ('status' in end) expect(before.equals(Buffer.alloc(Number(LENGTH), 0x5a))).toBe(true);
    else expect(end.code).toBe('COMMIT_MISMATCH');
  });
});

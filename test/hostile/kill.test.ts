/** One end is a process of its own and is killed with SIGKILL at a random moment of a phase; the other end survives it. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageWriter, MigrationError, MigrationSource, openImage, type Phase } from '../../lib/index.ts';
import { startModule } from '../image/child.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { fingerprint } from '../support/sending.ts';
import { temporaryFolder } from '../support/temp.ts';
import { kill, lineOf } from './children/process.ts';

const DEADLINE_MS = 30_000;
/** RAM takes two seconds, so that there is a middle to be killed in. */
const BANDWIDTH = 128n * MIB;
const folder = await temporaryFolder();
const image = join(folder.path, 'vm');
let before: readonly string[] = [];

beforeAll(async () => {
  const blocks = [
    { name: 'pc.ram', length: 224n * MIB, fill: 'random' },
    { name: 'more', length: 32n * MIB, fill: 'mixed' },
  ] as const;
  await (await syntheticImage(image, blocks)).close();
  before = await fingerprint(image);
});
afterAll(() => folder[Symbol.asyncDispose]());

interface Moment {
  readonly phase: Phase;
  readonly pinAll: boolean;
  /** Milliseconds behind the phase's beginning. */
  readonly after: number;
}

/** Short phases near their beginning, RAM anywhere. */
function moments(phases: readonly Phase[]): Moment[] {
  return phases.flatMap((phase) =>
    (phase === 'ram' ? [true, false] : [Math.random() < 0.5]).map((pinAll) => ({
      phase,
      pinAll,
      after: Math.floor(Math.random() * (phase === 'ram' ? 1500 : 4)),
    })),
  );
}

/** The error of a migration, or undefined if it got through before the kill. */
async function endOf(result: Promise<unknown>): Promise<MigrationError | undefined> {
  const ended = result.then(
    () => undefined,
    (error: unknown) => error,
  );
  const error = await withDeadline(ended, 'the end of the survivor', DEADLINE_MS);
  if (error !== undefined) expect(error).toBeInstanceOf(MigrationError);
  return error as MigrationError | undefined;
}

describe('a source outlives its destination, killed', () => {
  it.each(moments(['negotiate', 'setup', 'ram', 'device-state', 'commit']))(
    '$after ms into $phase, pin-all $pinAll',
    async ({ phase, after, pinAll }) => {
      await using to = await temporaryFolder();
      const path = join(to.path, 'vm');
      const child = startModule('../hostile/children/receive.ts', [path]);
      try {
        const uri = await lineOf(child, 'uri ');
        await using vm = await openImage(image);
        const source = new MigrationSource(vm, uri, { pinAll, maxBandwidth: BANDWIDTH });
        const ended = endOf(source.migrate());
        await lineOf(child, `phase ${phase}`);
        await delay(after);
        await kill(child);
        const error = await ended;
        if (error) expect(['CONNECTION_LOST', 'COMMIT_UNKNOWN']).toContain(error.code);
        if (error?.code === 'CONNECTION_LOST') expect(await readdir(to.path)).not.toContain('vm');
        if (!error) expect(await differingFiles(image, path)).toEqual([]);
        expect(await fingerprint(image)).toEqual(before);
        await cleansUp(path);
      } finally {
        await kill(child);
      }
    },
  );
});

/** A killed receiver cannot clean up behind itself: the next one does. */
async function cleansUp(path: string): Promise<void> {
  const writer = await ImageWriter.open(path).catch((error: unknown) => {
    expect(error).toMatchObject({ code: 'IMAGE_EXISTS' });
    return undefined;
  });
  await writer?.close();
  const left = await readdir(join(path, '..'));
  expect(writer ? left : left.filter((name) => name !== 'vm')).toEqual([]);
}

describe('a destination outlives its source, killed', () => {
  it.each(moments(['connect', 'negotiate', 'setup', 'ram', 'device-state', 'commit']))(
    '$after ms into $phase, pin-all $pinAll',
    async ({ phase, after, pinAll }) => {
      await using received = await receiving({}, { external: false });
      const uri = received.destination.uri;
      const child = startModule('../hostile/children/send.ts', [image, uri, `${pinAll}`, `${BANDWIDTH}`]);
      try {
        await lineOf(child, `phase ${phase}`);
        await delay(after);
        await kill(child);
        await survives(received);
        expect(await fingerprint(image)).toEqual(before);
      } finally {
        await kill(child);
      }
    },
  );
});

async function survives(received: Awaited<ReturnType<typeof receiving>>): Promise<void> {
  // Killed before it was a source at all: the destination waits on, as it should.
  if (received.destination.current.phase === 'listen') await received.destination.close();
  const error = await endOf(received.result);
  if (!error) return expect(await differingFiles(image, received.path)).toEqual([]);
  expect(['CONNECTION_LOST', 'CANCELLED']).toContain(error.code);
  await received.fails(error.code, error.phase);
}

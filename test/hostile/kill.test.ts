/**
 * One end is a process of its own and is killed with SIGKILL at a random moment of a phase, or in the commit window; the other end survives
 * it. A kill in the phase of RAM always breaks the migration; one in a short phase may come too late for that, and both endings are checked.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type DestinationTarget,
  ImageWriter,
  MigrationDestination,
  MigrationError,
  MigrationSource,
  openImage,
  type Phase,
} from '../../lib/index.ts';
import { startModule } from '../image/child.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { seededRandom } from '../support/seed.ts';
import { fingerprint } from '../support/sending.ts';
import { temporaryFolder } from '../support/temp.ts';
import { kill, lineOf } from './children/process.ts';

const DEADLINE_MS = 30_000;
/** Whoever is killed does not come again. */
const RESUME = { windowMs: 500 };
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

const random = seededRandom('test/hostile/kill.test.ts');

interface Moment {
  readonly phase: Phase;
  readonly pinAll: boolean;
  /** Milliseconds after the phase's beginning; of `ram`, percent of what is sent. */
  readonly after: number;
}

/** Short phases near their beginning, RAM anywhere but near its end. */
function moments(phases: readonly Phase[]): Moment[] {
  return phases.flatMap((phase) =>
    (phase === 'ram' ? [true, false] : [random() < 0.5]).map((pinAll) => ({
      phase,
      pinAll,
      after: Math.floor(random() * (phase === 'ram' ? 60 : 4)),
    })),
  );
}

/** Resolves at that moment. The child has said that it is in the phase; the migration is watched at the other end. */
async function come(migration: Pick<MigrationSource, 'current'>, { phase, after }: Moment): Promise<void> {
  if (phase !== 'ram') return delay(after);
  const reached = (): boolean => {
    const { total, 'normal-bytes': sent } = migration.current.ram;
    return total > 0 && sent * 100 >= total * after;
  };
  await expect.poll(reached, { interval: 1, timeout: DEADLINE_MS }).toBe(true);
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
    '$after into $phase, pin-all $pinAll',
    async (moment) => {
      const { phase, pinAll } = moment;
      await using to = await temporaryFolder();
      const path = join(to.path, 'vm');
      const child = startModule('../hostile/children/receive.ts', [path]);
      try {
        const uri = await lineOf(child, 'uri ');
        await using vm = await openImage(image);
        const source = new MigrationSource(vm, uri, { pinAll, maxBandwidth: BANDWIDTH });
        const ended = endOf(source.migrate());
        await lineOf(child, `phase ${phase}`);
        await come(source, moment);
        await kill(child);
        const error = await ended;
        if (phase === 'ram') expect(error).toBeDefined();
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
    '$after into $phase, pin-all $pinAll',
    async (moment) => {
      const { phase, pinAll } = moment;
      await using received = await receiving({ resume: RESUME }, { external: false });
      const uri = received.destination.uri;
      const child = startModule('../hostile/children/send.ts', [image, uri, `${pinAll}`, `${BANDWIDTH}`]);
      try {
        await lineOf(child, `phase ${phase}`);
        await come(received.destination, moment);
        await kill(child);
        const error = await survives(received);
        if (phase === 'ram') expect(error).toBeDefined();
        expect(await fingerprint(image)).toEqual(before);
      } finally {
        await kill(child);
      }
    },
  );
});

async function survives(
  received: Awaited<ReturnType<typeof receiving>>,
): Promise<MigrationError | undefined> {
  // Killed before it was a source at all: the destination waits on, as it should.
  if (received.destination.current.phase === 'listen') await received.destination.close();
  const error = await endOf(received.result);
  if (!error) {
    expect(await differingFiles(image, received.path)).toEqual([]);
    return undefined;
  }
  expect(['CONNECTION_LOST', 'CANCELLED']).toContain(error.code);
  await received.fails(error.code, error.phase);
  return error;
}

describe('in the commit window', () => {
  /** Reads what a source makes of a destination that is killed with its answer due. */
  async function killed(stand: 'before' | 'after', look: (path: string) => Promise<void>): Promise<void> {
    await using to = await temporaryFolder();
    const path = join(to.path, 'vm');
    const child = startModule('../hostile/children/receive.ts', [path, stand]);
    try {
      const uri = await lineOf(child, 'uri ');
      await using vm = await openImage(image);
      const ended = endOf(new MigrationSource(vm, uri).migrate());
      await lineOf(child, `stands ${stand}`);
      await kill(child);
      expect((await ended)?.code).toBe('COMMIT_UNKNOWN');
      await look(path);
      expect(await fingerprint(image)).toEqual(before);
      await cleansUp(path);
    } finally {
      await kill(child);
    }
  }

  it('a destination is killed with nothing done: the source does not know, and nothing is there', () =>
    killed('before', async (path) => expect(await readdir(join(path, '..'))).not.toContain('vm')));

  it('a destination is killed with the VM durable: the source does not know, and all of it is there', () =>
    killed('after', async (path) => expect(await differingFiles(image, path)).toEqual([])));

  it('a source is killed while the destination makes the VM durable: what that says is what is there', async () => {
    await using to = await temporaryFolder();
    const path = join(to.path, 'vm');
    await using writer = await ImageWriter.open(path);
    let asked = (): void => {};
    const committing = new Promise<void>((resolve) => {
      asked = resolve;
    });
    let release = (): void => {};
    const dead = new Promise<void>((resolve) => {
      release = resolve;
    });
    const target: DestinationTarget = {
      ramIsFresh: true,
      allocate: (vm) => writer.allocate(vm),
      append: (bytes) => writer.append(bytes),
      commit: async (arrival) => {
        asked();
        await dead;
        await writer.commit(arrival);
      },
      abort: () => writer.abort(),
    };
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      resume: RESUME,
    });
    const ended = endOf(destination.receive());
    const child = startModule('../hostile/children/send.ts', [image, destination.uri, 'false', '0']);
    try {
      await withDeadline(committing, 'the commit', DEADLINE_MS);
      await kill(child);
      release();
      const error = await ended;
      if (error === undefined) expect(await differingFiles(image, path)).toEqual([]);
      else expect([error.code, await readdir(to.path)]).toEqual(['CONNECTION_LOST', []]);
      expect(await fingerprint(image)).toEqual(before);
    } finally {
      release();
      await kill(child);
    }
  });
});

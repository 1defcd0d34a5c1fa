/**
 * A bench: what pin-all off costs. Registration in long spans has to make up for it; a separate test checks that spans are long,
 * by counting requests (test/migration/span-requests.test.ts).
 */

import type { Qemu } from '../../../examples/qemu/qemu.ts';
import { evenOnSiw } from './again.ts';
import type { OurEnd } from './our-end.ts';
import { MIB, setPinAll, waitForOutcome, waitUntilDirtying } from './qemu.ts';
import { type Case, expectCompleted, expectOk, listen, type Scene, unique, withVm } from './scene.ts';

/** Nearly all of RAM is data: without pin-all, zero pages would be left out, and the two would not move the same amount. */
const SIZE = { ramBytes: 128 * MIB, regionBytes: 112 * MIB };
const ROUNDS = 3;
const QEMU_ROUNDS = 1;
const MODES = [false, true] as const;

/** Other work on the machine makes a migration longer, but nothing makes it shorter. */
const shortest = (values: readonly number[]) => Math.min(...values);

const withTarget = <T>(scene: Scene, pinAll: boolean, work: (target: Qemu, uri: string) => Promise<T>) =>
  withVm(scene, { name: 'target', incoming: 'defer', paused: true, ...SIZE }, async (target) =>
    work(target, await listen(scene, target, pinAll)),
  );

async function migrateStopped(source: Qemu, uri: string, pinAll: boolean): Promise<number> {
  await setPinAll(source, pinAll);
  await source.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 33 });
  await source.execute('migrate', { uri });
  const end = waitForOutcome(source);
  await expectCompleted(end);
  return (await end)['total-time'] ?? Number.NaN;
}

function sendTime(scene: Scene, ours: OurEnd, image: string, pinAll: boolean): Promise<number> {
  const attempt = ours.provider === 'verbs' ? evenOnSiw : <T>(work: () => Promise<T>) => work();
  return attempt(() =>
    withTarget(scene, pinAll, async (target, uri) => {
      await ours.send(image, uri, pinAll);
      const sent = await ours.sent(image);
      expectOk(sent);
      await expectCompleted(waitForOutcome(target));
      return Number(sent.last?.['total-time']);
    }),
  );
}

/** In turn, so that other work on the machine affects both modes alike. */
async function inTurn(rounds: number, time: (pinAll: boolean) => Promise<number>): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++)
    for (const pinAll of MODES) times[Number(pinAll) as 0 | 1].push(await time(pinAll));
  return [shortest(times[0]), shortest(times[1])];
}

async function withStoppedVm<T>(scene: Scene, work: (source: Qemu) => Promise<T>): Promise<T> {
  return withVm(scene, { name: 'stopped', ...SIZE }, async (source) => {
    await waitUntilDirtying(source);
    await source.execute('stop');
    return work(source);
  });
}

/** The same image to a new QEMU with pin-all off and on, and between two QEMUs for comparison. */
export const spanTimes =
  (ours: OurEnd): Case =>
  (scene) =>
    withStoppedVm(scene, async (source) => {
      const image = unique('spans');
      await migrateStopped(source, await ours.receive(image), false);
      expectOk(await ours.received(image));
      const [dynamic, pinned] = await inTurn(ROUNDS, (pinAll) => sendTime(scene, ours, image, pinAll));
      const [qemuDynamic, qemuPinned] = await inTurn(QEMU_ROUNDS, (pinAll) => {
        return evenOnSiw(() =>
          withTarget(scene, pinAll, async (_, uri) => {
            // A VM that has been migrated must be told that it is still the one before it can be migrated again.
            await source.execute('cont');
            await source.execute('stop');
            return migrateStopped(source, uri, pinAll);
          }),
        );
      });
      return (
        `pin-all off ${dynamic} ms, on ${pinned} ms: ${(dynamic / pinned).toFixed(2)} times; ` +
        `QEMU to QEMU: off ${qemuDynamic} ms, on ${qemuPinned} ms`
      );
    });

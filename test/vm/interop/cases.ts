/** The cases between a stock QEMU and one of ours, or between two stock QEMUs. */

import type { Qemu } from '../../../examples/qemu/qemu.ts';
import type { OurEnd } from './our-end.ts';
import {
  lastPrinted,
  MIB,
  migrateLive,
  proveGuest,
  proveRunning,
  queryMigrate,
  RAM_BYTES,
  regionText,
  startLiveMigration,
  waitForOutcome,
  waitForRounds,
} from './qemu.ts';
import {
  type Case,
  expectCompleted,
  expectOk,
  expectTypedError,
  listen,
  unique,
  withSource,
  withVm,
} from './scene.ts';

/** Codes for a peer that gave up, disconnected or died. */
const PEER_ENDED = ['CONNECTION_LOST', 'CONNECTION_CLOSED', 'PEER_ERROR', 'STREAM_TRUNCATED'];
/** Slow enough for an image of some MiB to be under way when its target is killed. */
const SLOW = '1M';

async function expectNothingKept(ours: OurEnd, image: string): Promise<void> {
  if (await ours.exists(image)) throw new Error(`the failed receive left the image ${image}`);
}

/** A running guest from one stock QEMU to another: shows that the bench itself works. */
export const qemuToQemu =
  (pinAll: boolean): Case =>
  (scene) =>
    withSource(scene, (source) =>
      withVm(scene, { name: 'target', incoming: 'defer', paused: true }, async (target) => {
        const uri = await listen(scene, target, pinAll);
        const figures = await expectCompleted(migrateLive(source, uri, pinAll));
        await target.waitUntil('the VM', async () => (await target.status()) === 'paused' || undefined);
        const { pass, pages, firstPrinted } = await proveGuest(target);
        return `${figures}; all of ${regionText(pages)} as of pass ${pass}, goes on with ${firstPrinted}`;
      }),
    );

/** A running guest from QEMU into an image of ours; the image feeds a new QEMU in which the guest goes on. */
export const qemuToOurs =
  (ours: OurEnd, image: string, pinAll: boolean): Case =>
  (scene) =>
    withSource(scene, async (source) => {
      const uri = await ours.receive(image);
      const figures = await expectCompleted(migrateLive(source, uri, pinAll));
      expectOk(await ours.received(image));
      const pass = await ours.verify(image);
      const { firstPrinted } = await ours.resume(image);
      const before = await lastPrinted(source);
      if (firstPrinted <= before)
        throw new Error(`the guest had printed ${before} and then went on with ${firstPrinted}`);
      return `${figures}; image whole as of pass ${pass}, goes on with ${firstPrinted}`;
    });

/** An image of ours into a waiting QEMU, in which the guest goes on. */
export const oursToQemu =
  (ours: OurEnd, image: string, pinAll: boolean): Case =>
  (scene) =>
    withVm(scene, { name: 'target', incoming: 'defer', paused: true }, async (target) => {
      const uri = await listen(scene, target, pinAll);
      await ours.send(image, uri, pinAll);
      const sent = await ours.sent(image);
      expectOk(sent);
      await expectCompleted(waitForOutcome(target));
      const { pass, pages, firstPrinted } = await proveGuest(target);
      const time = `${sent.last?.['total-time'] ?? '?'} ms by us`;
      return `${time}; all of ${regionText(pages)} as of pass ${pass}, goes on with ${firstPrinted}`;
    });

/** A waiting QEMU that has more RAM: the VM is not taken over. */
export const mismatch =
  (ours: OurEnd, image: string): Case =>
  (scene) =>
    withVm(
      scene,
      { name: 'larger', incoming: 'defer', paused: true, ramBytes: 2 * RAM_BYTES },
      async (target) => {
        const uri = await listen(scene, target, false);
        await ours.send(image, uri, false);
        return `send: ${expectTypedError(await ours.sent(image), PEER_ENDED)} (QEMU had ${(2 * RAM_BYTES) / MIB} MiB)`;
      },
    );

/** What breaks a migration from QEMU in the middle. */
export type Break = 'migrate_cancel' | 'kill QEMU' | 'kill ours';

async function breakSource(how: Break, source: Qemu, ours: OurEnd, image: string): Promise<void> {
  if (how === 'migrate_cancel') await source.execute('migrate_cancel');
  else if (how === 'kill QEMU') await source.kill();
  else await ours.kill(image);
}

async function expectActive(vm: Qemu): Promise<void> {
  const { status } = await queryMigrate(vm);
  if (status !== 'active') throw new Error(`the migration is ${status}: there is nothing left to break`);
}

/** A migration from QEMU to us that does not end well: a typed error and no image here, the guest goes on there. */
export const brokenReceive =
  (ours: OurEnd, how: Break): Case =>
  (scene) =>
    withSource(scene, async (source) => {
      const image = unique('broken');
      const uri = await ours.receive(image);
      await startLiveMigration(source, uri, false);
      await waitForRounds(source);
      await expectActive(source);
      await breakSource(how, source, ours, image);
      const outcome = await ours.received(image);
      const here = how === 'kill ours' ? 'killed' : expectTypedError(outcome, PEER_ENDED);
      await expectNothingKept(ours, image);
      if (how === 'kill QEMU') return `receive: ${here}`;
      const { status } = await waitForOutcome(source);
      await proveRunning(source);
      return `receive: ${here}; QEMU: ${status}, its guest runs on`;
    });

/** A QEMU with a return path, which is refused by that name; its guest goes on there. */
export const returnPath =
  (ours: OurEnd): Case =>
  (scene) =>
    withSource(scene, async (source) => {
      const image = unique('return-path');
      const uri = await ours.receive(image);
      const capabilities = [{ capability: 'return-path', state: true }];
      await source.execute('migrate-set-capabilities', { capabilities });
      const refused = ours.refused(image);
      await startLiveMigration(source, uri, false);
      const message = await refused;
      if (!message.includes('return-path'))
        throw new Error(`what receive says does not name return-path: ${message}`);
      await ours.kill(image);
      await expectNothingKept(ours, image);
      const { status } = await waitForOutcome(source);
      await proveRunning(source);
      return `receive: ${message.slice(0, 60)}...; QEMU: ${status}, its guest runs on`;
    });

/** QEMU is killed while we send to it. */
export const killedTarget =
  (ours: OurEnd, image: string): Case =>
  (scene) =>
    withVm(scene, { name: 'killed', incoming: 'defer', paused: true }, async (target) => {
      const uri = await listen(scene, target, false);
      await ours.send(image, uri, false, SLOW);
      const running = async () =>
        ['active', 'setup'].includes((await queryMigrate(target)).status ?? '') || undefined;
      const early = ours.sent(image).then((outcome) => {
        throw new Error(`send ended before QEMU was killed: ${JSON.stringify(outcome)}`);
      });
      await Promise.race([target.waitUntil('the VM to arrive', running, 60_000), early]);
      early.catch(() => undefined);
      await target.kill();
      const code = expectTypedError(await ours.sent(image), PEER_ENDED);
      await ours.verify(image);
      return `send: ${code}; the image is as it was`;
    });

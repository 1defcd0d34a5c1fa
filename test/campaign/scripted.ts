/** Cases with a scripted version 1 peer at either end. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { controlMessage } from '../support/raw-control.ts';
import type { RawPeer } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { ScriptedDestination } from '../support/scripted-destination.ts';
import { ScriptedSource, STAGES } from '../support/scripted-source.ts';
import { PIECE } from '../support/small-vm.ts';
import type { Case, Fault } from './case.ts';
import { Command } from './command.ts';
import type { There } from './judge.ts';
import type { Played } from './ours.ts';
import type { Scene } from './scene.ts';

const DEADLINE_MS = 40_000;
const LIMITS = ['--provider', 'iwarp', '--response-timeout', '2', '--commit', 'off'];
type Deed = Extract<Fault, { kind: 'scripted' }>['deed'];

const DEEDS: Readonly<Record<Deed, (peer: RawPeer) => void>> = {
  reset: (peer) => peer.kill(),
  end: (peer) => peer.finish(),
  silence: (peer) => peer.stayOpen(),
  terminate: (peer) => peer.terminate(2, 0, 2),
  noise: (peer) => peer.send(Buffer.alloc(64, 0xff)),
  ERROR: (peer) => peer.send(controlMessage('ERROR')),
};

/** A version 1 source that keeps to the script up to a stage, and then may misbehave. */
export async function playSource(scene: Scene, it: Case): Promise<Played & { whole: boolean }> {
  const { deed, message } = it.fault as Extract<Fault, { kind: 'scripted' }>;
  const folder = await scene.folder();
  const args = ['receive', 'rdma:127.0.0.1:0', '--image', join(folder, 'vm'), '--timeout', '10', ...LIMITS];
  const destination = new Command([...args, ...(it.crc ? ['--crc'] : [])], DEADLINE_MS);
  await using source = await ScriptedSource.connect((await destination.port()) ?? 1);
  const stage = STAGES[Math.min(message, STAGES.length - 2)] as (typeof STAGES)[number];
  const honest = message >= STAGES.length - 1;
  await source.reach(stage);
  if (honest) {
    // Without a READY after the last bytes: the destination does not wait for one.
    await source.say('QEMU_FILE', PIECE.device.subarray(PIECE.device.length >> 1));
    if (deed === 'reset') source.peer.kill();
    else source.peer.finish();
  } else {
    DEEDS[deed](source.peer);
  }
  const said = await destination.ended;
  const what = honest ? (deed === 'reset' ? 'resets after all' : 'is honest') : `${deed} in ${stage}`;
  return { destination: said, folder, struck: [`version 1 source ${what}`], whole: honest };
}

/** Whether an image is what the scripted source has sent. */
export async function isScripted(image: string): Promise<boolean> {
  const expected = Buffer.alloc(0x31_0000);
  expected.fill(0x5a, 4096, 4096 + 100_000);
  const after = await readFile(join(image, 'after.bin'));
  const manifest = JSON.parse(await readFile(join(image, 'manifest.json'), 'utf8')) as {
    blocks: { name: string; file: string }[];
  };
  const ram = manifest.blocks.find(({ name }) => name === 'pc.ram')?.file as string;
  return (await readFile(join(image, ram))).equals(expected) && after.length > 0;
}

/** A version 1 destination, which says nothing at the end. `there`: whether it has all of the VM. */
export async function playDestination(scene: Scene, it: Case): Promise<Played & { there: There }> {
  const { deed, message } = it.fault as Extract<Fault, { kind: 'scripted' }>;
  await using listener = await RawListener.open();
  const blocks = scene.blocks.map(({ length }, index) => ({
    address: 0x7f00_0000_0000n + BigInt(index) * 0x1000_0000n,
    offset: BigInt(index) * 0x1000_0000n,
    length,
    rkey: 77 + index,
  }));
  let done = false;
  const destination = new ScriptedDestination({
    blocks,
    pinAll: it.pinAll,
    // The last READYs are those of the device state: half of the deeds wait for them.
    beforeReady: (count, { peer, streamBytes }) => {
      const last = isWhole(streamBytes, after);
      if (message < 8 ? count !== message : !last || message >= 14) return undefined;
      done = true;
      DEEDS[deed](peer);
      return Promise.resolve('over');
    },
  });
  const after = await readFile(join(scene.image, 'after.bin'));
  const served = destination.serve(listener).catch(() => {});
  const shared = [...LIMITS, ...(it.crc ? ['--crc'] : []), ...(it.pinAll ? ['--pin-all'] : [])];
  const source = new Command(['send', '--again', scene.image, listener.uri, ...shared], DEADLINE_MS);
  const said = await source.ended;
  await served;
  const whole = await hasAll(scene, destination, after);
  const keeps = whole && !(done && deed === 'ERROR');
  const what = done ? `${deed}${whole ? ' with the last bytes in hand' : ''}` : 'is honest';
  return {
    source: said,
    folder: await scene.folder(),
    struck: [`version 1 destination ${what}`],
    there: { image: keeps ? 'whole' : 'none', partial: false, sourceUntouched: true },
  };
}

const isWhole = (stream: Buffer, after: Buffer): boolean =>
  stream.length >= after.length && stream.subarray(stream.length - after.length).equals(after);

async function hasAll(scene: Scene, destination: ScriptedDestination, after: Buffer): Promise<boolean> {
  if (!isWhole(destination.streamBytes, after)) return false;
  for (const [index, ram] of destination.ram.entries()) {
    if (!ram.equals(await readFile(scene.blockFile(scene.image, index)))) return false;
  }
  return true;
}

/** The cases of a device, in the order in which they run: later cases send images that earlier ones made. */
import type { Device } from '../arguments.ts';
import type { NamedCase } from '../report.ts';
import { evenOnSiw } from './again.ts';
import {
  brokenReceive,
  killedTarget,
  mismatch,
  oursToQemu,
  qemuToOurs,
  qemuToQemu,
  returnPath,
} from './cases.ts';
import type { OurEnd } from './our-end.ts';
import type { Case, Scene } from './scene.ts';
import { spanTimes } from './spans.ts';

/** Where our end runs: in the VM on the device, or outside without a device. */
export interface Place {
  readonly name: string;
  readonly end: OurEnd;
}

const mode = (pinAll: boolean) => `pin-all ${pinAll ? 'on' : 'off'}`;
const BOTH = [false, true] as const;

const again =
  (work: Case): Case =>
  (scene) =>
    evenOnSiw(() => work(scene));

function withOurs({ name, end }: Place): NamedCase<Scene>[] {
  const image = (pinAll: boolean) => `vm-${end.provider}-${pinAll ? 'pinned' : 'dynamic'}`;
  const ours = `rdma-migrate ${name}`;
  const toQemu = end.provider === 'verbs' ? again : (work: Case) => work;
  return [
    ...BOTH.map((pinAll) => ({
      name: `QEMU → ${ours}, ${mode(pinAll)}`,
      run: qemuToOurs(end, image(pinAll), pinAll),
    })),
    ...BOTH.map((pinAll) => ({
      name: `${ours} → QEMU, ${mode(pinAll)}`,
      run: toQemu(oursToQemu(end, image(pinAll), pinAll)),
    })),
    { name: `${ours} → QEMU with more RAM`, run: toQemu(mismatch(end, image(false))) },
    { name: `${ours} → QEMU that is killed`, run: toQemu(killedTarget(end, image(false))) },
    { name: `QEMU → ${ours}, return-path on`, run: returnPath(end) },
    { name: `QEMU → ${ours}, migrate_cancel`, run: brokenReceive(end, 'migrate_cancel') },
    { name: `QEMU → ${ours}, QEMU is killed`, run: brokenReceive(end, 'kill QEMU') },
    { name: `QEMU → ${ours}, ours is killed`, run: brokenReceive(end, 'kill ours') },
  ];
}

export function matrix(device: Device, places: readonly Place[]): NamedCase<Scene>[] {
  return [
    ...BOTH.map((pinAll) => ({ name: `QEMU → QEMU, ${mode(pinAll)}`, run: again(qemuToQemu(pinAll)) })),
    ...places.flatMap(withOurs),
  ].map(({ name, run }) => ({ name: `${device}: ${name}`, run }));
}

/** What registration by spans costs: figures, no verdict. */
export function times(device: Device, places: readonly Place[]): NamedCase<Scene>[] {
  return places.map(({ name, end }) => ({
    name: `${device}: rdma-migrate ${name} → QEMU, time without and with pin-all`,
    run: spanTimes(end),
  }));
}

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
  const onDevice = end.provider === 'verbs';
  const toQemu = onDevice ? again : (work: Case) => work;
  const pinnedOn = (pinAll: boolean) => (onDevice && pinAll ? { on: 'rxe' as const } : {});
  return [
    ...BOTH.map((pinAll) => ({
      name: `QEMU → ${ours}, ${mode(pinAll)}`,
      ...pinnedOn(pinAll),
      run: qemuToOurs(end, image(pinAll), pinAll),
    })),
    ...BOTH.map((pinAll) => ({
      name: `${ours} → QEMU, ${mode(pinAll)}`,
      ...pinnedOn(pinAll),
      run: toQemu(oursToQemu(end, image(pinAll), pinAll)),
    })),
    // What breaks a migration: on each device only what the other one, or our end outside, does not show.
    { name: `${ours} → QEMU with more RAM`, on: 'siw', run: toQemu(mismatch(end, image(false))) },
    { name: `${ours} → QEMU that is killed`, on: 'siw', run: toQemu(killedTarget(end, image(false))) },
    { name: `QEMU → ${ours}, return-path on`, on: onDevice ? 'every' : 'siw', run: returnPath(end) },
    {
      name: `QEMU → ${ours}, migrate_cancel`,
      on: onDevice ? 'rxe' : 'siw',
      run: brokenReceive(end, 'migrate_cancel'),
    },
    {
      name: `QEMU → ${ours}, QEMU is killed`,
      on: onDevice ? 'siw' : 'every',
      run: brokenReceive(end, 'kill QEMU'),
    },
    {
      name: `QEMU → ${ours}, ours is killed`,
      on: onDevice ? 'siw' : 'every',
      run: brokenReceive(end, 'kill ours'),
    },
  ];
}

export function matrix(device: Device, places: readonly Place[]): NamedCase<Scene>[] {
  const cases: NamedCase<Scene>[] = [
    { name: `QEMU → QEMU, ${mode(false)}`, on: 'siw', run: again(qemuToQemu(false)) },
    { name: `QEMU → QEMU, ${mode(true)}`, on: 'rxe', run: again(qemuToQemu(true)) },
    ...places.flatMap(withOurs),
  ];
  return cases.map((one) => ({ ...one, name: `${device}: ${one.name}` }));
}

/** What registration by spans costs: figures, no verdict. */
export function times(device: Device, places: readonly Place[]): NamedCase<Scene>[] {
  return places.map(({ name, end }) => ({
    name: `${device}: rdma-migrate ${name} → QEMU, time without and with pin-all`,
    run: spanTimes(end),
  }));
}

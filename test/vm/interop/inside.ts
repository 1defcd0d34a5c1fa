/** Runs the matrix in the VM: `inside.js SETTINGS`, as JSON. Ends with 1 when a case fails. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device, Forward } from '../arguments.ts';
import { GUEST_ADDRESS } from '../job.ts';
import { casesOn, runCases } from '../report.ts';
import { matrix, type Place, times } from './matrix.ts';
import { localEnd } from './our-end.ts';
import { RemoteEnd } from './remote-end.ts';

export interface InsideSettings {
  readonly device: Device;
  /** Port of our end outside on 10.0.2.2; absent if the device does not reach outside. */
  readonly control?: number;
  readonly forward: readonly Forward[];
  /** Whether our end also runs in the VM, on the device. */
  readonly verbs: boolean;
  /** Run only cases whose name contains this text. */
  readonly only: string;
  /** Cases of other devices too. */
  readonly every: boolean;
  /** The bench in place of the cases. */
  readonly times: boolean;
}

async function places(settings: InsideSettings, folder: string): Promise<Place[]> {
  const { control, forward, verbs } = settings;
  const outside = control === undefined ? [] : [await RemoteEnd.connect(control, forward)];
  const inside = verbs
    ? [await localEnd({ folder: join(folder, 'ours'), provider: 'verbs', address: GUEST_ADDRESS })]
    : [];
  return [
    ...outside.map((end) => ({ name: 'outside (iwarp)', end })),
    ...inside.map((end) => ({ name: 'on the device (verbs)', end })),
  ];
}

async function main(settings: InsideSettings): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'interop-'));
  const ports = settings.forward.map(({ guest }) => guest);
  let next = 0;
  const nextPort = () => ports[next++ % ports.length] ?? 4444;
  const { device, every, only } = settings;
  const cases = (settings.times ? times : matrix)(device, await places(settings, folder));
  const wanted = casesOn(device, every, cases).filter(({ name }) => name.includes(only));
  return runCases(`${device}, interop`, wanted, { folder, nextPort });
}

process.exit(await main(JSON.parse(process.argv[2] ?? '{}') as InsideSettings));

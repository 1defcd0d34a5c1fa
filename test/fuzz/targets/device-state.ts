import type { ErrorCode } from '../../../lib/errors.ts';
import { type DeviceState, openDeviceState, sealDeviceState } from '../../../lib/protocol/framing.ts';
import type { Random } from '../../campaign/random.ts';
import { Finding, same, tried } from '../judge.ts';
import { hostile32, mutate, randomBytes } from '../mutate.ts';
import type { Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['STREAM_ERROR', 'STREAM_TRUNCATED'];

export const deviceState: Target = {
  name: 'device-state',
  feeds: 'openDeviceState with device states of sealDeviceState, damaged',
  reaches: ['undamaged', 'taken', 'STREAM_ERROR', 'STREAM_TRUNCATED'],
  play(random, hit) {
    const devices = someDevices(random);
    const valid = sealDeviceState({ devices });
    const damaged = random.chance(0.9);
    const bytes = damaged ? mutate(random, valid) : valid;
    const opened = tried(CODES, hit, () => openDeviceState(bytes));
    hit(damaged ? 'damaged' : 'undamaged');
    if (!damaged) same('the devices', opened, devices);
    if (opened === undefined) return;
    hit('taken');
    const states = opened.reduce((sum, { state }) => sum + state.length, 0);
    if (states > bytes.length) throw new Finding(`${states} bytes of states in ${bytes.length}`);
  },
};

function someDevices(random: Random): DeviceState[] {
  return Array.from({ length: random.below(4) }, (_, index) => ({
    name: random.pick(['cpu', 'timer', 'net']) + index,
    instanceId: random.chance(0.5) ? 0 : hostile32(random),
    version: 1 + random.below(3),
    state: Uint8Array.from(randomBytes(random, random.below(80))),
  }));
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type DeviceState,
  openDeviceState,
  sealDeviceState,
  streamHeader,
} from '../../lib/protocol/framing.ts';
import { parseConfiguration } from '../../lib/protocol/stream-configuration.ts';
import { DeviceStateCheck } from '../../lib/protocol/tail.ts';
import { beginning, description, device, pageBits } from './streams.ts';

const invalid = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe('streamHeader', () => {
  it('is what QEMU writes for a machine with pages of 4 KiB', () => {
    expect(Buffer.from(streamHeader({ machine: 'pc' })).toString('hex')).toBe(
      '5145564d0000000307000000027063',
    );
    expect(streamHeader({ machine: 'virt-7.2', pageSize: 4096 })).toEqual(beginning('virt-7.2').bytes());
  });

  it('says another page size as QEMU does', () => {
    const header = streamHeader({ machine: 'virt-7.2', pageSize: 65536 });
    expect(header).toEqual(beginning('virt-7.2').raw(pageBits(16)).bytes());
    expect(parseConfiguration(header)).toMatchObject({ machine: 'virt-7.2', pageSize: 65536 });
  });

  it.each([
    ['no name', { machine: '' }],
    ['a name of 256 characters', { machine: 'x'.repeat(256) }],
    ['a name with a line break', { machine: 'pc\n' }],
    ['a page size that is no power of two', { machine: 'pc', pageSize: 5000 }],
    ['pages that no target has', { machine: 'pc', pageSize: 1 << 17 }],
  ])('refuses %s', (_, vm) => {
    expect(() => streamHeader(vm)).toThrow(invalid);
  });
});

describe('sealDeviceState', () => {
  const timer = { name: 'timer', state: Buffer.alloc(100, 1) };
  const cpu = (instanceId: number): DeviceState => ({ name: 'cpu', instanceId, state: Buffer.alloc(9, 6) });

  it('is the end of the stream alone where there are no devices', () => {
    expect(sealDeviceState()).toEqual(description([]));
  });

  it('writes sections as QEMU does, in order', () => {
    const sealed = sealDeviceState({ devices: [timer, cpu(1)] });
    const sections = [device(3, 'timer', timer.state), device(4, 'cpu', cpu(1).state, 1)];
    expect(Buffer.from(sealed).indexOf(Buffer.concat(sections))).toBe(0);
  });

  it('is proven whole by a destination, and not when its last byte is missing', () => {
    const sealed = sealDeviceState({ pageSize: 16384, devices: [cpu(0), cpu(1), timer] });
    const check = new DeviceStateCheck();
    check.push(sealed.subarray(0, -1));
    expect(check.result().complete).toBe(false);
    check.push(sealed.subarray(-1));
    const devices = ['cpu', 'cpu', 'timer'].map((name) => expect.objectContaining({ name }));
    expect(check.result()).toMatchObject({ complete: true, description: { pageSize: 16384, devices } });
  });

  it.each([
    ['two devices of one name and instance', [timer, timer]],
    ['a device without a name', [{ ...timer, name: '' }]],
    ['a negative instance', [cpu(-1)]],
    ['a version that is no integer', [{ ...timer, version: 0.5 }]],
  ])('refuses %s', (_, devices) => {
    expect(() => sealDeviceState({ devices })).toThrow(invalid);
  });
});

describe('openDeviceState', () => {
  it('gives back what was sealed, whatever is in it', () => {
    const state = fc.record({
      name: fc.stringMatching(/^[ -~]{1,20}$/),
      version: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      // Bytes that mean something in the stream come often.
      state: fc
        .array(fc.constantFrom(0, 4, 6, 0x7e, 0x7d, 1), { maxLength: 60 })
        .map((list) => Uint8Array.from(list)),
    });
    fc.assert(
      fc.property(fc.array(state, { maxLength: 5 }), (list) => {
        const devices = list.map((one, instanceId) => ({ ...one, instanceId }));
        expect(openDeviceState(sealDeviceState({ devices }))).toEqual(devices);
      }),
    );
  });

  const sealed = sealDeviceState({ devices: [{ name: 'cpu', state: bytes(1, 2, 3) }] });

  it('says STREAM_TRUNCATED of everything shorter', () => {
    for (let length = 0; length < sealed.length; length++)
      expect(() => openDeviceState(sealed.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'STREAM_TRUNCATED' }),
      );
  });

  it.each([
    [
      'QEMU’s own',
      Buffer.concat([device(3, 'cpu', bytes(1)), description([{ name: 'cpu', instance_id: 0 }])]),
    ],
    ['a device that is not described', Buffer.concat([device(3, 'cpu', bytes(1)), sealDeviceState()])],
    ['a described device that is not there', sealed.subarray(sealed.indexOf(0x7e) + 5)],
    ['another version', Buffer.from(sealed).fill(2, 16, 17)],
    [
      'a size past the end',
      Buffer.from(Buffer.from(sealed).toString('latin1').replace('"size":3', '"size":9'), 'latin1'),
    ],
  ])('says STREAM_ERROR of %s', (_, state) => {
    expect(() => openDeviceState(state)).toThrow(expect.objectContaining({ code: 'STREAM_ERROR' }));
  });
});

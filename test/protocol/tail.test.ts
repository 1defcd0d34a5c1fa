import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceStateCheck } from '../../lib/protocol/tail.ts';
import { Builder } from './builder.ts';
import { description, device, run, split } from './streams.ts';
import { qemuFiles } from './traces.ts';

const DEVICES = [
  { name: 'timer', instance_id: 0 },
  { name: 'dma', instance_id: 0 },
  { name: 'dma', instance_id: 1 },
];
const sections = () => [
  device(3, 'timer', new Uint8Array(30).fill(0x7e)),
  device(4, 'dma', new Uint8Array(0)),
  device(5, 'dma', new Uint8Array(9), 1),
];
const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));

function check(pieces: Iterable<Uint8Array>) {
  const state = new DeviceStateCheck();
  for (const piece of pieces) state.push(piece);
  return state.result();
}

function reason(pieces: Iterable<Uint8Array>): string {
  const result = check(pieces);
  return result.complete ? 'complete' : result.reason;
}

const whole = join(...sections(), description(DEVICES));

describe('device state', () => {
  it('is whole with its sections, EOF and description, and gives the page size', () => {
    expect(check([whole])).toEqual({
      complete: true,
      description: {
        pageSize: 4096,
        devices: DEVICES.map(({ name, instance_id }) => ({ name, instanceId: instance_id })),
      },
    });
  });

  it('is whole at no place before its end, asked at every byte', () => {
    const state = new DeviceStateCheck();
    for (let at = 0; at < whole.length; at++) {
      expect(state.result().complete).toBe(false);
      state.push(whole.subarray(at, at + 1));
    }
    expect(state.result().complete).toBe(true);
  });

  it('tells, split anywhere, that its guest tells free pages, so that some may be left out', () => {
    const name = 'virtio-balloon-device/free-page-report';
    const hint = Buffer.concat([Buffer.of(0x05, name.length), Buffer.from(name), Buffer.alloc(12)]);
    const balloon = { name: '0000:00:02.0/virtio-balloon', instance_id: 0 };
    const state = join(device(3, balloon.name, hint), description([balloon]));
    for (let at = 0; at <= state.length; at++) {
      const result = check([state.subarray(0, at), state.subarray(at)]);
      expect(result).toMatchObject({ complete: true, mayLeaveOut: ['free-page-hint'] });
    }
    expect(check(Array.from(state, (byte) => Uint8Array.of(byte)))).toMatchObject({
      mayLeaveOut: ['free-page-hint'],
    });
    const without = join(device(3, balloon.name, hint.subarray(0, 39)), description([balloon]));
    expect(check([without])).not.toHaveProperty('mayLeaveOut');
  });

  it('tells that it has a virtio-mem device, whose unplugged memory is left out', () => {
    const name = '0000:00:02.0/virtio-mem';
    const state = join(device(3, name, Buffer.alloc(4)), description([{ name, instance_id: 0 }]));
    expect(check([state])).toMatchObject({ mayLeaveOut: ['virtio-mem'] });
  });

  it('is not whole any more when bytes follow', () => {
    expect(check([whole, Uint8Array.of(0)]).complete).toBe(false);
    expect(check([whole, Uint8Array.of(0x7d)]).complete).toBe(false);
  });

  it.each<[string, Uint8Array[], string]>([
    ['nothing', [], 'does not end with'],
    ['no description', [...sections(), Uint8Array.of(0)], 'does not end with'],
    ['a description without EOF', [...sections(), description(DEVICES).subarray(1)], 'does not end with'],
    ['a lost device', [device(3, 'timer', new Uint8Array(1)), description(DEVICES)], 'missing'],
    ['devices in another order', [...sections().reverse(), description(DEVICES)], 'order'],
    [
      'another instance',
      [...sections().slice(0, 2), device(5, 'dma', new Uint8Array(9), 2), description(DEVICES)],
      'missing',
    ],
    ['broken JSON', [new Builder().u8(0).u8(6).u32(3).text('{,}').bytes()], 'damaged'],
    ['JSON that is no UTF-8', [new Builder().u8(0).u8(6).u32(3).hex('7bff7d').bytes()], 'damaged'],
    ['JSON of another kind', [new Builder().u8(0).u8(6).u32(10).text('{"a":null}').bytes()], 'damaged'],
    ['devices without names', [...sections(), description([{ instance_id: 0 } as never])], 'damaged'],
    ['a page size of less than nothing', [...sections(), description(DEVICES, -1)], 'damaged'],
  ])('with %s is not whole', (_name, pieces, why) => {
    expect(reason(pieces)).toContain(why);
  });

  it('may have a length with the bytes of EOF and of the section type in it', () => {
    for (const length of [0x106, 0x600, 0x606, 0x1_0600, 0x6_0606]) {
      const json = JSON.stringify({ page_size: 4096, devices: [], pad: '' });
      const padded = json.replace('""', `"${'x'.repeat(length - json.length)}"`);
      const tail = new Builder().u8(0).u8(6).u32(length).text(padded).bytes();
      expect(reason([tail])).toBe('complete');
    }
  });

  it('gives the same result in pieces of any size', () => {
    const files = qemuFiles('dynamic');
    const { tail } = run('rdma', files);
    for (const size of [1, 7, 4096, 65_536, 65_537, tail.length]) {
      expect(reason(split(tail, size))).toBe('complete');
      expect(reason(split(tail.subarray(0, -1), size))).toContain('does not end with');
    }
  });

  it('finds headers wherever the blocks it is scanned in are cut', () => {
    for (let shift = 0; shift < 300; shift++) {
      const first = device(3, 'timer', new Uint8Array(65_536 - 300 + shift));
      expect(reason([first, ...sections().slice(1), description(DEVICES)])).toBe('complete');
    }
  });

  it('is judged after more data than is kept', () => {
    const big = new Uint8Array(1024 * 1024).fill(0x7e);
    const begin = device(3, 'timer', new Uint8Array(0)).subarray(0, -5);
    const end = new Builder().u8(0x7e).u32(3).bytes();
    const pieces = [begin, ...Array(20).fill(big), end, ...sections().slice(1)] as Uint8Array[];
    expect(reason([...pieces, description(DEVICES)])).toBe('complete');
    expect(reason([...pieces, description([...DEVICES, { name: 'gone', instance_id: 0 }])])).toContain(
      'missing',
    );
  });

  it('with more look-alikes than are kept is judged by its end alone', () => {
    const lookAlike = device(3, 'a', new Uint8Array(0));
    const pieces = Array(70_000).fill(lookAlike) as Uint8Array[];
    expect(reason([...pieces, description(DEVICES)])).toBe('complete');
    expect(reason(pieces)).toContain('does not end with');
  });

  it('of random bytes is never whole and never throws', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (pieces) => {
        expect(check([...pieces, Uint8Array.of(0x7d)]).complete).toBe(false);
      }),
    );
  });
});

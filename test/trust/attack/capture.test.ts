/** What an eavesdropper gets of a migration: everything without credentials, and with them nothing that is the guest's. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { NativeKeys } from '../../../lib/native/transport.ts';
import { Connection } from '../../../lib/transport/connection.ts';
import { type Conversation, everything, WAYS } from '../../support/tcp-proxy.ts';
import { partOf, unitsOf } from '../../support/wire-units.ts';
import { attack } from './attack.ts';
import { judge } from './judge.ts';
import { DEVICE_TEXT, NAMES, SecretVm, TEXT } from './secret-vm.ts';
import { psk, type Way, way, x509 } from './ways.ts';

const PAGES = 128;
const CLEAR = { source: {}, destination: {} };

afterEach(() => {
  vi.restoreAllMocks();
});

interface Captured {
  readonly vm: SecretVm;
  readonly conversations: readonly Conversation[];
  readonly seen: Buffer;
  /** Of the regions that both ends have registered. */
  readonly keys: ReadonlySet<number>;
}

async function capture(
  vm: SecretVm,
  { source, destination, channels }: Pick<Way, 'source' | 'destination' | 'channels'>,
): Promise<Captured> {
  const registering = vi.spyOn(Connection.prototype, 'register');
  const outcome = await attack(vm, { source: { ...source, channels }, destination }, () => undefined);
  expect(judge(outcome, undefined)).toEqual([]);
  const { conversations } = outcome;
  expect(conversations).toHaveLength(channels);
  const given = (await Promise.all(registering.mock.results.map(({ value }) => value))) as NativeKeys[];
  const keys = new Set(given.flatMap((pairs) => [...pairs].filter((_, index) => index % 2 === 1)));
  return { vm, conversations, seen: everything(conversations), keys };
}

/** The key as messages have it (with the four zeros after it), and as a WRITE's segments begin with it. */
function formsOf(key: number): Buffer[] {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(key);
  const head = (control: number): Buffer => Buffer.concat([Buffer.of(control, 0x40), bytes.subarray(0, 4)]);
  return [bytes, head(0xc1), head(0x81)];
}

/** What is found of each kind, of how much there is. */
function found({ vm, seen, keys }: Captured) {
  const has = (bytes: Buffer | string): boolean => seen.includes(bytes);
  const { samples } = vm;
  return {
    text: has(TEXT),
    // Another alignment of the pattern is another 16 bytes.
    piecesOfText: Array.from({ length: 16 }, (_, at) => TEXT.subarray(at, at + 16)).filter(has).length,
    samples: samples.filter(has).length / samples.length,
    names: NAMES.filter(has).length,
    machine: has('pc-i440fx'),
    deviceState: has(DEVICE_TEXT),
    keys: [...keys].filter((key) => formsOf(key).some(has)).length,
  };
}

const NOTHING = {
  text: false,
  piecesOfText: 0,
  samples: 0,
  names: 0,
  machine: false,
  deviceState: false,
  keys: 0,
};

describe.each([1, 4])('of a migration over %i channels an eavesdropper has', (channels) => {
  it('everything where there are no credentials', async () => {
    await using vm = await SecretVm.create(PAGES);
    const { keys, samples, ...all } = found(await capture(vm, { ...CLEAR, channels }));
    expect(all).toEqual({
      text: true,
      piecesOfText: 16,
      names: NAMES.length,
      machine: true,
      deviceState: true,
    });
    // Some lie across two segments.
    expect(samples).toBeGreaterThan(0.9);
    // The source's own are for nobody else.
    expect(keys).toBeGreaterThan(0);
  });

  it.each([
    ['x509', x509],
    ['a shared key', psk],
  ])('nothing of the guest with %s', async (name, tls) => {
    await using vm = await SecretVm.create(PAGES);
    const captured = await capture(vm, way(name, tls(), channels));
    expect(captured.keys.size).toBeGreaterThan(0);
    expect(found(captured)).toEqual(NOTHING);
    for (const [index, conversation] of captured.conversations.entries())
      for (const towards of WAYS) {
        const { units, rest } = unitsOf(conversation.bytes(towards));
        const kinds = units.map(({ kind }) => kind);
        const clear = kinds.indexOf('record');
        expect(rest, 'whole units').toHaveLength(0);
        expect(kinds.slice(0, clear), 'in the clear').toEqual([
          'mpa',
          ...Array.from({ length: clear - 1 }, () => 'fpdu'),
        ]);
        // Of a rail the first protected byte follows the setup.
        if (index > 0) expect(clear, 'of a rail').toBe(1);
        expect(new Set(kinds.slice(clear)), 'after that').toEqual(new Set(['record']));
        expect(units.map(partOf).lastIndexOf('end'), 'the last one').toBe(units.length - 1);
      }
  });
});

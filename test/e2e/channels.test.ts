/** Migrations whose WRITEs take several queue pairs. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  type DestinationOptions,
  type DestinationTarget,
  ImageWriter,
  MigrationDestination,
  type MigrationResult,
  MigrationSource,
  openImage,
  type ResumeOptions,
  type SourceOptions,
  type SourceVm,
} from '../../lib/index.ts';
import { acceptCapabilities, requestCapabilities } from '../../lib/protocol/capabilities.ts';
import type { Rail } from '../../lib/protocol/extension.ts';
import { requestRail } from '../../lib/protocol/rail-request.ts';
import { Committing, outcome } from '../support/endings.ts';
import { differences, MemoryTarget as GuestTarget, LiveGuest } from '../support/live-guest.ts';
import { MemoryTarget, MemoryVm, migrateMemory, noise, PAGE, poke } from '../support/memory-vm.ts';
import { RailProxy, type Treatment } from '../support/rail-proxy.ts';
import { controlMessage } from '../support/raw-control.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { PIECE } from '../support/small-vm.ts';
import { temporaryFolder } from '../support/temp.ts';

const MIB = 1n << 20n;

/** RAM of noise, holes, zeros and single pages, and a block that is shorter than a chunk. */
async function mixedVm(): Promise<MemoryVm> {
  const vm = await MemoryVm.create({ 'pc.ram': 64n * MIB, 'pc.rom': 12n * PAGE });
  const [ram, rom] = vm.blocks as [SourceVm['blocks'][0], SourceVm['blocks'][0]];
  for (let at = 0n; at < 64n; at += 8n) await poke(ram, at * MIB, noise(5n * MIB + 3n * PAGE));
  for (let page = 0n; page < 64n; page++) await poke(ram, 6n * MIB + page * 7n * PAGE, noise(PAGE));
  await poke(rom, PAGE, noise(7n * PAGE));
  return vm;
}

const digests = (blocks: SourceVm['blocks']): Promise<string[]> =>
  Promise.all(blocks.map(({ mapping }) => mapping.digest()));

async function arrives(
  source: SourceOptions,
  destination: DestinationOptions,
): Promise<{ source: MigrationResult; destination: MigrationResult; notices: string[] }> {
  await using vm = await mixedVm();
  await using target = new MemoryTarget();
  const results = await migrateMemory(vm, target, source, destination);
  expect(await digests(target.blocks)).toEqual(await digests(vm.blocks));
  for (const end of [results.source, results.destination]) expect(end.outcome).toBe('committed');
  expect(results.destination.ram['normal-bytes']).toBe(results.source.ram['normal-bytes']);
  return results;
}

describe.each([1, 2, 4])('over %i channels a VM arrives whole', (channels) => {
  it.each<[string, SourceOptions, DestinationOptions]>([
    ['with pin-all', { pinAll: true }, {}],
    ['without pin-all', {}, {}],
    ['within a budget', { pinBudget: 4n * MIB }, { pinBudget: 4n * MIB }],
    ['compared by a digest, with CRC32C', { verify: true, crc: true }, {}],
    ['held to a bandwidth', { maxBandwidth: 128n << 20n }, {}],
  ])('%s', async (_, source, destination) => {
    const results = await arrives({ ...source, channels }, { ...destination, channels });
    expect([results.source.channels, results.destination.channels]).toEqual([channels, channels]);
    expect(results.notices).toEqual([]);
  });
});

describe('how many there are', () => {
  it.each([
    [4, 2, 2],
    [2, 4, 2],
    [16, 16, 16],
    [4, 1, 1],
  ])('%i asked for, %i granted at most: %i', async (wanted, most, channels) => {
    const results = await arrives({ channels: wanted }, { channels: most });
    expect([results.source.channels, results.destination.channels]).toEqual([channels, channels]);
  });

  it('one, with a version 1 source', async () => {
    await using waiting = await receiving({ channels: 4 }, { external: false });
    await using source = await ScriptedSource.connect(waiting.port);
    await source.reach('device');
    await source.say('QEMU_FILE', source.restOfDeviceState());
    source.peer.finish();
    expect(await waiting.result).toMatchObject({ channels: 1, outcome: 'unconfirmed' });
  });

  it('those that could be made, and a notice of the others', async () => {
    await using vm = await mixedVm();
    await using target = new MemoryTarget();
    const ended = await throughProxy(vm, target, { refuse: [1, 3] });
    expect(ended.sent).toMatchObject({ channels: 2, outcome: 'committed' });
    expect(ended.received).toMatchObject({ channels: 2, outcome: 'committed' });
    expect(ended.notices).toEqual([expect.stringMatching(/^only 2 of 4 channels could be made, /)]);
    expect(await digests(target.blocks)).toEqual(await digests(vm.blocks));
  });
});

/** A migration over four channels whose connections the proxy treats so. */
async function throughProxy(
  vm: SourceVm,
  target: DestinationTarget,
  treatment: Treatment,
  resume: ResumeOptions = {},
) {
  const limits = { provider: 'iwarp', responseTimeoutMs: 10_000, channels: 4, resume } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, limits);
  await using proxy = await RailProxy.open(Number(destination.uri.split(':').at(-1)), treatment);
  const source = new MigrationSource(vm, proxy.uri, limits);
  const notices: string[] = [];
  source.on('notice', (notice) => notices.push(notice));
  const receiving = outcome(destination.receive());
  const sent = await outcome(source.migrate());
  return { sent, received: await receiving, notices, proxy };
}

describe('a channel that breaks', () => {
  it.each([1, 2, 3])(
    'fails the migration at both ends where nothing resumes: connection %i',
    async (connection) => {
      await using vm = await mixedVm();
      await using target = new Committing(async () => {});
      const before = await digests(vm.blocks);
      const treatment = { cut: { connection, atByte: 2 << 20 } };
      const { sent, received, proxy } = await throughProxy(vm, target, treatment, { windowMs: 0 });
      expect(proxy.struck).toBe(true);
      expect(sent).toMatchObject({
        code: 'CONNECTION_LOST',
        message: expect.stringMatching(/channel [2-4] of 4/),
      });
      expect(received).toMatchObject({ code: expect.stringMatching(/^(CONNECTION_LOST|PEER_ERROR)$/) });
      expect(target.commits).toEqual([]);
      expect(await digests(vm.blocks)).toEqual(before);
    },
  );

  it.each([0, 1, 3])('goes on over a new connection, alone: connection %i', async (connection) => {
    await using vm = await mixedVm();
    await using target = new MemoryTarget();
    const treatment = { cut: { connection, atByte: 2 << 20 } };
    const { sent, received, notices, proxy } = await throughProxy(vm, target, treatment);
    expect(proxy.struck).toBe(true);
    for (const end of [sent, received]) expect(end).toMatchObject({ resumes: 1, outcome: 'committed' });
    expect(notices).toEqual([
      expect.stringMatching(/^the link of channel [1-4] broke, /),
      expect.stringMatching(/^channel [1-4] goes on over a new link/),
    ]);
    expect(await digests(target.blocks)).toEqual(await digests(vm.blocks));
  });
});

it('a running guest arrives as it was when it stood still', async () => {
  await using vm = await LiveGuest.create({ speed: 2 });
  await using target = new GuestTarget();
  const { source, destination } = await migrateMemory(
    vm,
    target,
    { channels: 4, live: { timeLimitMs: 20_000, onTimeLimit: 'stop-and-copy' } },
    { channels: 4 },
  );
  expect([source.channels, destination.channels]).toEqual([4, 4]);
  expect(await differences(vm, target)).toEqual([]);
});

it('an image is durable, complete and sent on', async () => {
  await using folder = await temporaryFolder();
  await using vm = await mixedVm();
  const path = join(folder.path, 'vm');
  await using writer = await ImageWriter.open(path);
  await migrateMemory(vm, writer, { channels: 4 }, { channels: 4 });
  await using image = await openImage(path);
  expect(await digests(image.blocks)).toEqual(await digests(vm.blocks));
  await using target = new MemoryTarget();
  await migrateMemory(image, target, { channels: 3, pinAll: true }, { channels: 4 });
  expect(await digests(target.blocks)).toEqual(await digests(vm.blocks));
});

describe('strangers', () => {
  const REJECTED = 0x20;
  const asks = async (port: number, rail: Rail): Promise<number> => {
    await using peer = await RawPeer.tcp(port);
    return (await peer.request(requestRail(rail))).flags & REJECTED;
  };

  it('that claim a channel are refused, and a migration arrives beside them', async () => {
    await using vm = await mixedVm();
    await using target = new MemoryTarget();
    const limits = { provider: 'iwarp', responseTimeoutMs: 10_000, channels: 4 } as const;
    await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, limits);
    const received = waiting.receive();
    const port = Number(waiting.uri.split(':').at(-1));
    for (let index = 0; index < 20; index++) expect(await asks(port, { token: 1n, index })).toBe(REJECTED);
    const sent = await new MigrationSource(vm, waiting.uri, limits).migrate();
    expect([sent.channels, (await received).channels]).toEqual([4, 4]);
    expect(await digests(target.blocks)).toEqual(await digests(vm.blocks));
  });

  it('with the right token get no more than was granted', async () => {
    await using waiting = await receiving({ channels: 3 });
    await using peer = await RawPeer.tcp(waiting.port);
    const offer = { pinAll: false, commit: true, channels: 3 };
    const { privateData } = await peer.request(requestCapabilities(offer));
    const { token, channels } = acceptCapabilities(privateData, offer);
    expect(channels).toBe(3);
    // It is no source yet: its rails are nobody's.
    expect(await asks(waiting.port, { token: token as bigint, index: 1 })).toBe(REJECTED);
    await peer.next('READY');
    peer.send(controlMessage('QEMU_FILE', PIECE.start));
    await peer.next('READY of a source that has been let in');
    await using rail = await RawPeer.tcp(waiting.port);
    const shown = requestRail({ token: token as bigint, index: 1 });
    expect((await rail.request(shown)).flags & REJECTED).toBe(0);
    for (const index of [0, 1, 3, 0xffff])
      expect(await asks(waiting.port, { token: token as bigint, index })).toBe(REJECTED);
    expect(await asks(waiting.port, { token: (token as bigint) ^ 1n, index: 2 })).toBe(REJECTED);
    // Its rails end with it.
    peer.kill();
    expect((await rail.untilEnd()).length).toBeGreaterThan(0);
  });
});

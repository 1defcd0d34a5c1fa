/** When the two ends register, and how much at a time. */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { pinHere, preparePins } from '../../lib/migration/source/prepare.ts';
import { ACCESS } from '../../lib/native/transport.ts';
import type { ControlMessage } from '../../lib/protocol/control.ts';
import { Connection } from '../../lib/transport/connection.ts';
import { MemoryTarget, MemoryVm, migrateMemory, noise, poke } from '../support/memory-vm.ts';

const MIB = 1n << 20n;

afterEach(() => void vi.restoreAllMocks());

describe('pin-all', () => {
  it('registers at the source while the destination does, and at each end block beside block', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': 4n * MIB, 'vga.vram': 2n * MIB });
    for (const block of vm.blocks) await poke(block, 0n, noise(MIB));
    const { register } = Connection.prototype;
    let waiting = 0;
    let all = (): void => {};
    const met = new Promise<void>((resolve) => {
      all = resolve;
    });
    vi.spyOn(Connection.prototype, 'register').mockImplementation(async function (this: Connection, ...args) {
      // Nobody goes on before both blocks are being registered at both ends.
      if (++waiting === 4) all();
      await met;
      return register.apply(this, args);
    });
    await using target = new MemoryTarget();
    await migrateMemory(vm, target, { pinAll: true });
    expect(waiting).toBe(4);
    for (const [index, block] of vm.blocks.entries())
      expect(await target.blocks[index]?.mapping.digest()).toBe(await block.mapping.digest());
  });

  it('ends with the source’s reason when that cannot register, whatever the destination is still at', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': 4n * MIB, 'vga.vram': 2n * MIB });
    const { register } = Connection.prototype;
    let underWay = 0;
    vi.spyOn(Connection.prototype, 'register').mockImplementation(async function (this: Connection, ...args) {
      const [, [, length], access] = args;
      if ((access & ACCESS.remoteWrite) !== 0) await once(this.ended, 'abort');
      else {
        underWay += 1;
        await pause(length === 4n * MIB ? 50 : 0);
        underWay -= 1;
        if (length === 2n * MIB) throw new Error('no memory to pin');
      }
      return register.apply(this, args);
    });
    await using target = new MemoryTarget();
    await expect(migrateMemory(vm, target, { pinAll: true })).rejects.toThrow('no memory to pin');
    expect(underWay).toBe(0);
  });

  it('ends with the destination’s reason when that cannot register, and here nothing is registered any more', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': 4n * MIB, 'vga.vram': 2n * MIB });
    const { register } = Connection.prototype;
    let begun = 0;
    let ended = 0;
    vi.spyOn(Connection.prototype, 'register').mockImplementation(async function (this: Connection, ...args) {
      const [, , access] = args;
      if ((access & ACCESS.remoteWrite) !== 0) throw new Error('no memory to pin');
      begun += 1;
      try {
        await pause(200);
        return await register.apply(this, args);
      } finally {
        ended += 1;
      }
    });
    await using target = new MemoryTarget();
    await expect(migrateMemory(vm, target, { pinAll: true })).rejects.toMatchObject({
      code: 'PEER_ERROR',
    });
    expect([begun, ended]).toEqual([2, 2]);
  });

  it('registers no block here that is sent from copies', async () => {
    const blocks = ['ram', 'settles', 'more'].map((name) => ({ name, length: MIB, mapping: { name } }));
    const registered: string[] = [];
    const connection = {
      register: async (mapping: { name: string }) => {
        registered.push(mapping.name);
        return Uint32Array.of(1, 2);
      },
    };
    const guest = { tracker: { sent: [{}] }, settling: ['settles'] };
    const lkeys = await pinHere({ blocks, guest } as never, connection as never);
    expect(registered).toEqual(['settles', 'more']);
    expect([...lkeys.keys()]).toEqual([1, 2]);
  });
});

describe('spans towards one of ours', () => {
  it.each([
    [
      'are short and asked for ahead where memory is pinned',
      true,
      [[32n], [32n, 32n], [32n, 32n, 32n, 32n], [8n]],
    ],
    ['are long where it is not', false, [[232n]]],
  ])('%s', async (_, pinsMemory, expected) => {
    const length = 232n * MIB;
    const asked: bigint[][] = [];
    const turns = {
      request: async (message: ControlMessage) => {
        if (message.type !== 'REGISTER_REQUEST') throw new Error(message.type);
        asked.push(message.commands.map(({ chunks }) => chunks + 1n));
        return { results: message.commands.map(() => ({ hostAddress: 0n, rkey: 1 })) };
      },
    };
    const block = {
      index: 0,
      block: { name: 'pc.ram', length, mapping: { pageSize: 4096 } },
      remote: { hostAddress: 0n, offset: 0n, length, rkey: 0 },
    };
    const pins = await preparePins(
      [block] as never,
      {
        connection: {
          info: { pinsMemory },
          register: async (_: unknown, spans: BigUint64Array) => new Uint32Array(spans.length),
          deregister: async () => {},
        },
        turns,
        agreed: { extended: true, sparse: true },
        limits: { timeoutMs: 1000, signal: new AbortController().signal },
      } as never,
    );
    for await (const ready of pins.ready(block as never, BigUint64Array.of(0n, length), true))
      ready.writtenBy(Promise.resolve());
    expect(asked).toEqual(expected);
  });
});

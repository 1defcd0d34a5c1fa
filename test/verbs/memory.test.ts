import { openDomain } from 'rdma-migrate/verbs';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../support/leaks.ts';
import { ALL, complete, connectedPair } from '../support/verbs-pair.ts';

const BYTES = 1000;

const kinds: { name: string; make: () => ArrayBufferLike | ArrayBufferView; bytes: number }[] = [
  { name: 'an ArrayBuffer', make: () => new ArrayBuffer(BYTES), bytes: BYTES },
  { name: 'a SharedArrayBuffer', make: () => new SharedArrayBuffer(BYTES), bytes: BYTES },
  { name: 'a Buffer of its own', make: () => Buffer.alloc(BYTES), bytes: BYTES },
  { name: 'a Buffer out of the pool', make: () => Buffer.from('x'.repeat(BYTES)), bytes: BYTES },
  {
    name: 'a view of a part',
    make: () => new Uint8Array(new SharedArrayBuffer(4000), 8, BYTES),
    bytes: BYTES,
  },
  { name: 'another typed array', make: () => new Float64Array(125), bytes: BYTES },
  { name: "a small array, which is in V8's heap at first", make: () => new Uint8Array(16), bytes: 16 },
];

describe.each(kinds)('$name', ({ make, bytes }) => {
  it('receives, and is sent, and stays where it is while garbage is collected', async () => {
    await using pair = await connectedPair();
    const given = make();
    const room = await pair.right.domain.registerMemory(given, ALL);
    const message = await pair.left.domain.registerMemory(make());
    expect(room.length).toBe(bytes);
    message.memory.forEach((_, index) => {
      message.memory[index] = index & 0xff;
    });
    collectGarbage();
    pair.right.queuePair.postRecv([room.range()]);
    pair.left.queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
    await complete(pair.right.queuePair, 1);
    const view = ArrayBuffer.isView(given)
      ? new Uint8Array(given.buffer, given.byteOffset, given.byteLength)
      : new Uint8Array(given);
    expect([...view]).toEqual(Array.from({ length: bytes }, (_, index) => index & 0xff));
  });
});

it('a registered ArrayBuffer is not transferred', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  const buffer = new ArrayBuffer(64);
  const region = await domain.registerMemory(buffer);
  try {
    structuredClone(buffer, { transfer: [buffer] });
  } catch {
    // Node 21 and later refuse; before, it is copied
  }
  expect(buffer.byteLength).toBe(64);
  const { transfer } = buffer as { transfer?: () => ArrayBuffer };
  if (transfer !== undefined) expect(() => transfer.call(buffer)).toThrow(/memory region/);
  const second = await domain.registerMemory(buffer);
  await region.close();
  expect('transfer' in ArrayBuffer.prototype).toBe(Object.hasOwn(buffer, 'transfer'));
  await second.close();
  expect(Object.hasOwn(buffer, 'transfer')).toBe(false);
});

it('what cannot be registered is refused', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  const detached = new ArrayBuffer(8);
  structuredClone(detached, { transfer: [detached] });
  const resizable = new (ArrayBuffer as new (n: number, o: object) => ArrayBuffer)(8, { maxByteLength: 64 });
  for (const memory of [
    new ArrayBuffer(0),
    detached,
    resizable,
    'text',
    { buffer: new ArrayBuffer(8) },
    null,
  ])
    await expect(domain.registerMemory(memory as ArrayBuffer)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
});

it('the bytes live as long as the region, whoever else forgets them', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  const register = async () => {
    const buffer = new ArrayBuffer(1 << 20);
    const region = await domain.registerMemory(buffer);
    return { forgotten: new WeakRef(buffer), close: () => region.close() };
  };
  const { forgotten, close } = await register();
  await new Promise(setImmediate);
  collectGarbage();
  expect(forgotten.deref()).toBeDefined();
  await close();
});

it('a range that leaves the region is refused', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  const region = await domain.registerMemory(new ArrayBuffer(64));
  expect(region.range(60)).toEqual({ addr: region.addr + 60n, length: 4, lkey: region.lkey });
  expect(region.range(64).length).toBe(0);
  for (const [offset, length] of [
    [65, 0],
    [0, 65],
    [-1, 1],
    [1.5, 1],
  ] as const)
    expect(() => region.range(offset, length)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
});

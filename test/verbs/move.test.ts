/** Programs that move with their queue pairs. Old place, new place and peer are in this process; examples/moving-program has processes. */
import {
  CompletionBatch,
  type Domain,
  expectMove,
  listen,
  type MemoryRegion,
  type MoveOptions,
  openDomain,
  type QueuePair,
  thaw,
} from 'rdma-migrate/verbs';
import { expect, it } from 'vitest';
import { LOOPBACK, nextRequest } from '../support/verbs-pair.ts';

const RESUME = { windowMs: 20_000, retryMs: 5 };
const OPTIONS = { resume: RESUME, maxSendWr: 32, maxRecvWr: 64 };
const DEPTH = 16;
const BYTES = 4096;

/** Sends numbered messages and takes those of the peer, which end with its last one. Its state moves with its memory: one block. */
class Program {
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  #out: MemoryRegion;
  #inbox: MemoryRegion;
  #queuePair: QueuePair;
  #stop: () => void = () => {};
  readonly done: Promise<void>;
  #isDone: () => void = () => {};
  readonly faults: string[] = [];

  constructor(memory: Uint8Array, out: MemoryRegion, inbox: MemoryRegion, queuePair: QueuePair) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#out = out;
    this.#inbox = inbox;
    this.#queuePair = queuePair;
    this.done = new Promise((resolve) => {
      this.#isDone = resolve;
    });
  }

  static readonly bytes = 4096 + 3 * DEPTH * BYTES;

  static async begin(domain: Domain, queuePair: QueuePair, messages: number): Promise<Program> {
    const memory = new Uint8Array(new SharedArrayBuffer(Program.bytes));
    const out = await domain.registerMemory(memory.subarray(4096, 4096 + DEPTH * BYTES));
    const inbox = await domain.registerMemory(memory.subarray(4096 + DEPTH * BYTES));
    const program = new Program(memory, out, inbox, queuePair);
    program.#view.setUint32(0, messages);
    for (let slot = 0; slot < 2 * DEPTH; slot += 1) queuePair.postRecv([program.#recv(slot)]);
    return program;
  }

  get memory(): Uint8Array {
    return this.#memory;
  }
  get received(): number {
    return this.#view.getUint32(12);
  }

  #recv(slot: number) {
    return { wrId: BigInt(slot), ...this.#inbox.range(slot * BYTES, BYTES) };
  }

  run(): void {
    this.#stop = this.#queuePair.onCompletions((batch) => {
      for (const { opcode, wrId, status } of batch) this.#take(opcode, Number(wrId), status);
      this.#send();
    });
    this.#send();
  }

  stop(): void {
    this.#stop();
  }

  /** A message of nothing that is not for its peer. */
  post(): void {
    this.#queuePair.postSend([{ opcode: 'SEND', ...this.#out.range(0, 0) }]);
  }

  #take(opcode: string, id: number, status: string): void {
    const view = this.#view;
    if (status !== 'SUCCESS') this.faults.push(`${opcode} ${id}: ${status}`);
    if (opcode === 'RECV') {
      const number = view.getUint32(4096 + DEPTH * BYTES + id * BYTES);
      if (number !== view.getUint32(12)) this.faults.push(`message ${number}, not ${view.getUint32(12)}`);
      view.setUint32(12, number + 1);
      this.#queuePair.postRecv([this.#recv(id)]);
    } else {
      if (id !== view.getUint32(8)) this.faults.push(`completion ${id}, not ${view.getUint32(8)}`);
      view.setUint32(8, id + 1);
    }
    if (view.getUint32(8) === view.getUint32(0) && view.getUint32(12) === view.getUint32(0)) this.#isDone();
  }

  #send(): void {
    const view = this.#view;
    // No further ahead of the peer than it has RECVs for.
    const end = Math.min(view.getUint32(0), Math.min(view.getUint32(8), view.getUint32(12)) + DEPTH);
    for (let next = view.getUint32(4); next < end; next += 1) {
      const slot = next % DEPTH;
      view.setUint32(4096 + slot * BYTES, next);
      this.#queuePair.postSend([
        { opcode: 'SEND', wrId: BigInt(next), ...this.#out.range(slot * BYTES, BYTES) },
      ]);
      view.setUint32(4, next + 1);
    }
  }
}

async function pair(messages: number) {
  const domains = [await openDomain({ provider: 'iwarp' }), await openDomain({ provider: 'iwarp' })] as const;
  const listener = await listen(LOOPBACK, { provider: 'iwarp' });
  const left = domains[0].createQueuePair(OPTIONS);
  const right = domains[1].createQueuePair(OPTIONS);
  const programs = [
    await Program.begin(domains[0], left, messages),
    await Program.begin(domains[1], right, messages),
  ] as const;
  const connecting = left.connect({ host: '127.0.0.1', port: listener.port });
  await right.accept(await nextRequest(listener), { maySendAtOnce: true });
  await connecting;
  return { domains, listener, programs, queuePairs: [left, right] as const };
}

it('a program moves with its connection while messages go both ways, back and forth', async () => {
  const messages = 20_000;
  const { domains, listener, programs } = await pair(messages);
  let domain: Domain = domains[0];
  let mover: Program = programs[0];
  for (const each of programs) each.run();
  for (let moves = 0; moves < 6; moves += 1) {
    while (mover.received < ((moves + 1) * messages) / 8) await new Promise(setImmediate);
    let expected: Promise<Awaited<ReturnType<typeof expectMove>>> | undefined;
    const move = await domain.prepareMove({
      to: { host: '127.0.0.1', port: listener.port },
      ahead: moves % 2 === 0,
      announce: async (announcement) => {
        expected = expectMove(announcement);
        await expected;
      },
    });
    mover.stop();
    const image = await move.freeze();
    const copy = new Uint8Array(new SharedArrayBuffer(Program.bytes));
    copy.set(mover.memory);
    const thawed = await thaw(image, { memory: () => copy, ...(expected && { expected: await expected }) });
    await move.commit();
    mover.memory.fill(0xee);
    const [out, inbox] = thawed.regions as [MemoryRegion, MemoryRegion];
    expect(out.memory.buffer).toBe(copy.buffer);
    const next = new Program(copy, out, inbox, thawed.queuePairs[0] as QueuePair);
    next.run();
    expect(mover.faults).toEqual([]);
    await thawed.takeOver();
    domain = thawed.domain;
    mover = next;
  }
  await Promise.all([mover.done, programs[1].done]);
  expect(mover.faults).toEqual([]);
  expect(programs[1].faults).toEqual([]);
  mover.stop();
  programs[1].stop();
  await domain.close();
  await domains[1].close();
  await listener.close();
});

it('an aborted move goes on where it was', async () => {
  const messages = 4000;
  const { domains, listener, programs } = await pair(messages);
  for (const each of programs) each.run();
  while (programs[0].received < messages / 4) await new Promise(setImmediate);
  const move = await domains[0].prepareMove({ to: { host: '127.0.0.1', port: listener.port }, ahead: false });
  programs[0].stop();
  await move.freeze();
  expect(() => programs[0].post()).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  await move.abort();
  programs[0].run();
  await Promise.all(programs.map((each) => each.done));
  for (const each of programs) {
    expect(each.faults).toEqual([]);
    each.stop();
  }
  await Promise.all(domains.map((each) => each.close()));
  await listener.close();
});

/** A move to the same process, prepared. */
async function prepared(options: Partial<MoveOptions> = {}) {
  const made = await pair(1);
  const to = { host: '127.0.0.1', port: made.listener.port };
  const move = await made.domains[0].prepareMove({ to, ahead: false, ...options });
  return {
    ...made,
    move,
    to,
    async [Symbol.asyncDispose]() {
      await Promise.all(made.domains.map((each) => each.close()));
      await made.listener.close();
    },
  };
}

it('an image that is cut or changed anywhere is refused, and the old place goes on', async () => {
  await using made = await prepared();
  const { move, programs } = made;
  const image = await move.freeze();
  const memory = () => programs[0].memory;
  const invalid = expect.objectContaining({ code: 'IMAGE_INVALID' });
  for (let size = 0; size < image.length; size += 7)
    await expect(thaw(image.subarray(0, size), { memory })).rejects.toEqual(invalid);
  for (let at = 0; at < image.length; at += 5) {
    const bad = Uint8Array.from(image);
    bad[at] = (bad[at] as number) ^ 0x40;
    await expect(thaw(bad, { memory })).rejects.toEqual(invalid);
  }
  await expect(thaw(image, { memory: () => programs[0].memory.subarray(1) })).rejects.toEqual(invalid);
  await expect(expectMove(image)).rejects.toEqual(invalid);
  await move.abort();
  for (const each of programs) each.run();
  await Promise.all(programs.map((each) => each.done));
  for (const each of programs) each.stop();
});

it('completions that nobody has taken come first at the new place', async () => {
  await using made = await prepared({ longestPauseMs: 20_000 });
  const { move, programs } = made;
  programs[0].post();
  programs[1].post();
  const image = await move.freeze();
  await using thawed = await thaw(image, { memory: () => programs[0].memory });
  await move.commit();
  const batch = new CompletionBatch();
  const moved = thawed.queuePairs[0] as QueuePair;
  const seen: string[] = [];
  const there = thawed.takeOver();
  while (seen.length < 2) {
    moved.pollCompletions(batch);
    for (const { opcode, status } of batch) seen.push(`${opcode} ${status}`);
    await new Promise(setImmediate);
  }
  expect(seen.sort()).toEqual(['RECV SUCCESS', 'SEND SUCCESS']);
  await there;
});

it('what cannot move says why, and nothing has changed', async () => {
  await using made = await prepared();
  const { domains, to, move } = made;
  await expect(domains[0].prepareMove({ to })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(domains[1].prepareMove({ to })).rejects.toMatchObject({ code: 'BUSY' });
  await expect(move.commit()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await move.abort();
  await move.abort();
  await expect(move.freeze()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  const blocks = { other: new Uint8Array(8) };
  await expect(domains[0].prepareMove({ to, blocks })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(domains[0].prepareMove({ to: [] })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  const away = new AbortController();
  const slow = domains[0].prepareMove({ to: { host: '127.0.0.1', port: 9 }, signal: away.signal });
  setTimeout(() => away.abort(), 50);
  await expect(slow).rejects.toMatchObject({ code: 'CANCELLED' });
  const again = await domains[0].prepareMove({ to, ahead: false });
  await again.abort();
});

it('who asks for it back when a peer has gone on elsewhere is told so', async () => {
  await using made = await prepared();
  const { move, programs } = made;
  const image = await move.freeze();
  await using thawed = await thaw(image, { memory: () => Uint8Array.from(programs[0].memory) });
  await thawed.takeOver(); // without the old place's leave
  await expect(move.abort()).rejects.toMatchObject({ code: 'ALREADY_MOVED' });
});

it('a queue pair without `resume` does not move', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  domain.createQueuePair();
  await expect(domain.prepareMove({ to: { host: '127.0.0.1', port: 1 } })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
});

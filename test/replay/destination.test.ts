/** The source's side of captured migrations between stock QEMUs, replayed against our destination. */
import { randomFillSync } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openImage } from '../../lib/index.ts';
import { type Announced, controlMessage, parseBlocks, parseControl } from '../support/raw-control.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { type Receiving, receiving } from '../support/receiving.ts';
import { announced, blockOf, messages, type TraceLine, trace, traceStream } from './trace.ts';

type Send = Extract<TraceLine, { op: 'send' }>;
type Write = Extract<TraceLine, { op: 'write' }>;

/** Replays a capture in its order: what its source said is said, what its destination said is expected. */
class Replay {
  /** RAM as the capture's WRITEs and COMPRESSes leave it. */
  readonly ram: readonly Buffer[];
  readonly answers: string[] = [];
  readonly #there: readonly Announced[];
  #here: readonly Announced[] = [];
  /** Our keys by those of the capture. */
  readonly #keys = new Map<number, number>();
  readonly #peer: RawPeer;
  #payload = randomFillSync(Buffer.alloc(2 << 20));

  constructor(peer: RawPeer, lines: readonly TraceLine[]) {
    this.#peer = peer;
    this.#there = announced(lines);
    this.ram = this.#there.map(({ length }) => Buffer.alloc(Number(length)));
  }

  async line(line: TraceLine): Promise<void> {
    if (line.op === 'write') this.#write(line);
    else if (line.op === 'send') await (line.dir === 'source' ? this.#say(line) : this.#expect(line));
  }

  async #expect(line: Send): Promise<void> {
    const event = await this.#peer.next(line.type);
    if (event.kind !== 'send') throw new Error(`${event.kind} where ${line.type} was due`);
    const message = parseControl(event.message);
    this.answers.push(message.type);
    expect(message.type).toBe(line.type);
    expect(message.data.length).toBe(line.data.length);
    expect({ ...message, data: 0 }).toEqual({ type: line.type, repeat: line.repeat, data: 0 });
    if (message.type === 'RAM_BLOCKS_RESULT') this.#blocks(parseBlocks(message.data));
    if (message.type === 'REGISTER_RESULT') this.#registered(line.data, message.data);
  }

  #blocks(blocks: readonly Announced[]): void {
    expect(blocks.map(({ length }) => length)).toEqual(this.#there.map(({ length }) => length));
    const pinned = this.#there.map(({ rkey }) => rkey !== 0);
    expect(blocks.map(({ rkey }) => rkey !== 0)).toEqual(pinned);
    this.#here = blocks;
    for (const [index, { rkey }] of this.#there.entries()) this.#keys.set(rkey, blocks[index]?.rkey ?? 0);
  }

  #registered(theirs: Buffer, ours: Buffer): void {
    const index = this.#there.findIndex(({ address }) => address === theirs.readBigUInt64BE(8));
    expect(ours.readBigUInt64BE(8)).toBe(this.#here[index]?.address);
    this.#keys.set(theirs.readUInt32BE(0), ours.readUInt32BE(0));
  }

  async #say({ type, repeat, padding, data }: Send): Promise<void> {
    this.#peer.send(controlMessage(type, this.#translated(type, data), { repeat, padding }));
  }

  /** Positions in the destination's ram_addr space are ours instead of the capture's. */
  #translated(type: string, data: Buffer): Buffer {
    const bytes = Buffer.from(data);
    if (type === 'REGISTER_REQUEST') {
      bytes.writeBigUInt64BE(this.#moved(data.readUInt32BE(8), data.readBigUInt64BE(0)), 0);
    }
    if (type === 'COMPRESS') {
      const index = data.readUInt32BE(4);
      bytes.writeBigUInt64BE(this.#moved(index, data.readBigUInt64BE(8)), 8);
      const start = Number(data.readBigUInt64BE(8) - this.#block(this.#there, index).offset);
      this.ram[index]?.fill(0, start, start + Number(data.readBigUInt64BE(16)));
    }
    return bytes;
  }

  #moved(index: number, position: bigint): bigint {
    return position - this.#block(this.#there, index).offset + this.#block(this.#here, index).offset;
  }

  #block(blocks: readonly Announced[], index: number): Announced {
    const block = blocks[index];
    if (!block) throw new Error(`block ${index} of ${blocks.length}`);
    return block;
  }

  #write({ stag, to, length }: Write): void {
    const index = blockOf(this.#there, to);
    const key = this.#keys.get(stag);
    if (key === undefined) throw new Error(`a WRITE with the key ${stag}`);
    const offset = to - this.#block(this.#there, index).address;
    this.#payload.writeUInt32BE(this.answers.length, 4); // no two rounds are alike
    const payload = Buffer.from(this.#payload.subarray(0, length));
    this.ram[index]?.set(payload, Number(offset));
    this.#peer.write(key, this.#block(this.#here, index).address + offset, payload);
  }
}

async function connect(received: Receiving, lines: readonly TraceLine[]): Promise<RawPeer> {
  const [request, reply] = lines.filter((line) => line.op === 'mpa');
  const peer = await RawPeer.tcp(received.port);
  const answer = await peer.request(request?.privateData ?? Buffer.alloc(0));
  expect(answer).toMatchObject({ flags: 0x10, revision: 2 });
  expect(answer.privateData).toEqual(reply?.privateData);
  return peer;
}

describe.each(['pin-all', 'dynamic', 'running'])('the source of %s.jsonl', (name) => {
  it('gets the answers that a stock QEMU gave it, and its VM arrives', async () => {
    const lines = trace(name);
    const stream = traceStream(lines);
    await using received = await receiving({}, { external: false });
    await using peer = await connect(received, lines);
    const replay = new Replay(peer, lines);
    for (const line of lines) await replay.line(line);
    peer.finish();
    const result = await withDeadline(received.result, 'the result', 30_000);

    expect(replay.answers).toEqual(messages(lines, 'dest').map(({ type }) => type));
    expect((await peer.untilEnd()).map(({ kind }) => kind)).toEqual(['end']);
    expect(result).toMatchObject({
      outcome: 'unconfirmed',
      'peer-extended': false,
      'pin-all': name === 'pin-all',
    });
    await using image = await openImage(received.path);
    expect(image.layout.blocks.map((block) => block.name)).toEqual(stream.names);
    expect(Buffer.from(image.before)).toEqual(stream.before);
    expect((await readFile(join(received.path, 'after.bin'))).equals(stream.deviceState)).toBe(true);
    for (const [index, block] of image.manifest.blocks.entries()) {
      const arrived = await readFile(join(received.path, block.file as string));
      expect(arrived.equals(replay.ram[index] as Buffer), block.name).toBe(true);
    }
  });

  it('is answered the same in pieces: every FPDU split and joined by TCP', async () => {
    // The capture's first messages in single bytes: what is in one read must not matter.
    const lines = trace(name).slice(0, 20);
    await using received = await receiving({}, { external: false });
    await using peer = await connect(received, lines);
    const whole = peer.raw.bind(peer);
    peer.raw = (bytes) => {
      for (let at = 0; at < Math.min(bytes.length, 600); at++) whole(bytes.subarray(at, at + 1));
      whole(bytes.subarray(600));
    };
    const replay = new Replay(peer, lines);
    for (const line of lines) await replay.line(line);
    const expected = messages(lines, 'dest').map(({ type }) => type);
    expect(replay.answers).toEqual(expected);
    peer.finish();
    await received.fails('CONNECTION_LOST', ['setup', 'ram']);
  });
});

it('the source of mismatch.jsonl stops behind its first message: that is an error and leaves nothing', async () => {
  const lines = trace('mismatch');
  await using received = await receiving({}, { external: false });
  await using peer = await connect(received, lines);
  const replay = new Replay(peer, lines);
  for (const line of lines) await replay.line(line);
  peer.finish();
  const error = await received.fails('CONNECTION_LOST', 'setup');
  expect(error.message).toMatch(/compare/);
  expect(await readdir(dirname(received.path))).toEqual([]);
});

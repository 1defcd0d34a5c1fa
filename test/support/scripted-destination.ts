/**
 * A destination played by a test. It serves a source as a stock QEMU does, keeps what arrives, and checks at every step that the
 * source may do what it does: turns, order, bounds, keys. A violation throws.
 */
import {
  Account,
  type Announced,
  announcedBlock,
  controlMessage,
  type Message,
  parseControl,
  parseRegister,
  privateData,
  type TypeName,
  u32s,
  u64s,
} from './raw-control.ts';
import type { MpaFrame } from './raw-frames.ts';
import type { RawPeer } from './raw-iwarp.ts';
import type { RawListener } from './raw-listener.ts';

const CHUNK = 1n << 20n;
/** Stock QEMU sends no more in one message; nor may we to a v1 destination. */
const V1_FILE_BYTES = 32 * 1024;

interface Region {
  readonly rkey: number;
  readonly index: number;
  readonly start: bigint;
  readonly end: bigint;
}

export interface DestinationScript {
  readonly blocks: readonly Announced[];
  readonly commit?: boolean;
  readonly pinAll?: boolean;
  /** As a destination of ours that has a budget. Nothing above it is registered. */
  readonly pinBudget?: bigint;
  /** Keys to give, in order; invented once they are used up. */
  readonly rkeys?: readonly number[];
  /** RAM_BLOCKS_RESULT as it is to be sent. */
  readonly blocksResult?: Buffer;
  /** Replaces the usual handling of the message; `undefined` keeps it. */
  readonly instead?: (message: Message, destination: ScriptedDestination) => Promise<'over'> | undefined;
  /** Before the READY of that number, from 0; 'over' ends the script. */
  readonly beforeReady?: (count: number, destination: ScriptedDestination) => Promise<'over'> | undefined;
}

export class ScriptedDestination {
  readonly received: Message[] = [];
  readonly stream: Buffer[] = [];
  readonly ram: readonly Buffer[];
  /** Ranges that arrived, as WRITE or COMPRESS. */
  readonly covered: { index: number; offset: bigint; length: bigint }[] = [];
  readonly account = new Account();
  request: MpaFrame | undefined;
  readonly #script: DestinationScript;
  readonly #regions: Region[] = [];
  readonly #rkeys: number[];
  #peer: RawPeer | undefined;
  #readies = 0;
  #given = 0;

  constructor(script: DestinationScript) {
    this.#script = script;
    this.#rkeys = [...(script.rkeys ?? [])];
    this.ram = script.blocks.map(({ length }) => Buffer.alloc(Number(length), 0xee));
    if (!script.pinAll) return;
    for (const [index, { rkey, length }] of script.blocks.entries()) {
      this.#regions.push({ rkey, index, start: 0n, end: length });
    }
  }

  get peer(): RawPeer {
    if (!this.#peer) throw new Error('no source has connected');
    return this.#peer;
  }

  /** The stream so far, in one. */
  get streamBytes(): Buffer {
    return Buffer.concat(this.stream);
  }

  async accept(listener: RawListener): Promise<void> {
    this.#peer = await listener.accept();
    this.request = await this.peer.awaitRequest();
    this.peer.reply(this.request, privateData(this.#script));
  }

  /** Accepts one source and serves it until it disconnects or the script is over. */
  async serve(listener: RawListener): Promise<void> {
    await this.accept(listener);
    for (let count = 0; ; count++) {
      if ((await this.#script.beforeReady?.(count, this)) === 'over') return;
      this.say('READY');
      this.#readies += 1;
      const message = await this.#next();
      if (message === undefined) return;
      this.received.push(message);
      if (message.type === 'ERROR') return;
      if ((await this.#script.instead?.(message, this)) === 'over') return;
      this.#serve(message);
    }
  }

  say(type: TypeName, data: Uint8Array = new Uint8Array(), repeat = 1): void {
    this.peer.send(controlMessage(type, data, { repeat }));
  }

  /** The next control message; WRITEs before it are placed. `undefined`: the source has disconnected. */
  async #next(): Promise<Message | undefined> {
    for (;;) {
      const event = await this.peer.next('the source’s message');
      if (event.kind === 'end') return undefined;
      if (event.kind === 'write') this.#place(event.stag, event.to, event.payload);
      else if (event.kind === 'send') return this.#inTurn(event.message);
      else throw new Error(`the connection broke: ${JSON.stringify(event)}`);
    }
  }

  #inTurn(bytes: Buffer): Message {
    const message = parseControl(bytes);
    if (message.type === 'ERROR') return message;
    if (this.#readies === 0) throw new Error(`${message.type} without a READY`);
    this.#readies -= 1;
    if (message.type !== 'COMMIT') this.account.add(bytes);
    return message;
  }

  #serve(message: Message): void {
    const { type, data } = message;
    switch (type) {
      case 'QEMU_FILE':
        if (!this.#script.commit && data.length > V1_FILE_BYTES)
          throw new Error(`QEMU_FILE of ${data.length}`);
        this.stream.push(data);
        return;
      case 'RAM_BLOCKS_REQUEST':
        this.say('RAM_BLOCKS_RESULT', this.#blocksResult());
        return;
      case 'REGISTER_REQUEST':
        this.#register(message);
        return;
      case 'UNREGISTER_REQUEST':
        this.#unregister(message);
        return;
      case 'COMPRESS':
        this.#zero(data);
        return;
      case 'REGISTER_FINISHED':
        return;
      case 'COMMIT':
        if (!data.equals(this.account.commit())) throw new Error('COMMIT is not what arrived');
        this.say('COMMITTED', u32s(0));
        return;
      default:
        throw new Error(`a source never sends ${type}`);
    }
  }

  #blocksResult(): Buffer {
    return this.#script.blocksResult ?? Buffer.concat(this.#script.blocks.map(announcedBlock));
  }

  #block(index: number): Announced {
    const block = this.#script.blocks[index];
    if (!block) throw new Error(`block ${index}`);
    return block;
  }

  #register({ repeat, data }: Message): void {
    if (repeat !== 1 || data.length !== 24) throw new Error('QEMU takes one register command a message');
    const { key, index, chunks } = parseRegister(data);
    const { offset, length, address } = this.#block(index);
    const start = ((key - offset) / CHUNK) * CHUNK;
    const end = start + (chunks + 1n) * CHUNK;
    if (key < offset || key - offset >= length || end - length >= CHUNK)
      throw new Error(`REGISTER ${key}, ${chunks}`);
    const there = this.#regions.find(
      (region) => region.index === index && region.start < end && start < region.end,
    );
    if (there)
      throw new Error(`REGISTER of chunk ${start / CHUNK} twice: QEMU would answer with the old key`);
    const rkey = this.#rkeys.shift() ?? 0x4000_0000 + ++this.#given;
    this.#regions.push({ rkey, index, start, end: end < length ? end : length });
    this.#checkBudget();
    this.say('REGISTER_RESULT', Buffer.concat([u32s(rkey, 0), u64s(address)]));
  }

  /** The most bytes that were registered at one time. */
  peak = 0n;
  #checkBudget(): void {
    const bytes = this.#regions.reduce((sum, { start, end }) => sum + end - start, 0n);
    if (bytes > this.peak) this.peak = bytes;
    const { pinBudget } = this.#script;
    if (pinBudget !== undefined && bytes > pinBudget) throw new Error(`${bytes} registered of ${pinBudget}`);
  }

  /** A QEMU looks its registration up by the first chunk, and crashes when there is none. */
  #unregister({ repeat, data }: Message): void {
    if (repeat !== 1 || data.length !== 24) throw new Error('towards a QEMU one command a message');
    const { key, index, chunks } = parseRegister(data);
    const at = this.#regions.findIndex((region) => region.index === index && region.start === key * CHUNK);
    const region = this.#regions[at];
    if (!region) throw new Error(`UNREGISTER of chunk ${key}, with which nothing begins: QEMU crashes`);
    if ((region.end - region.start + CHUNK - 1n) / CHUNK !== chunks + 1n)
      throw new Error(`UNREGISTER of ${chunks + 1n} chunks from ${key}, not what was registered`);
    this.#regions.splice(at, 1);
    this.say('UNREGISTER_FINISHED');
  }

  #zero(data: Buffer): void {
    const [value, index] = [data.readUInt32BE(0), data.readUInt32BE(4)];
    const { offset, length } = this.#block(index);
    const at = data.readBigUInt64BE(8) - offset;
    const size = data.readBigUInt64BE(16);
    if (value !== 0 || at < 0n || size === 0n || at + size > length)
      throw new Error(`COMPRESS ${index} ${at} ${size}`);
    this.ram[index]?.fill(0, Number(at), Number(at + size));
    this.covered.push({ index, offset: at, length: size });
  }

  #place(stag: number, to: bigint, payload: Buffer): void {
    // QEMU's keys are unique: with its WRITEs of zero rkeys the first region would be as good as any.
    const region = this.#regions.find(({ rkey, index, start, end }) => {
      const at = to - this.#block(index).address;
      return rkey === stag && at >= start && at + BigInt(payload.length) <= end;
    });
    if (!region)
      throw new Error(`WRITE of ${payload.length} bytes at ${to} with key ${stag} is in no region`);
    const at = to - this.#block(region.index).address;
    this.ram[region.index]?.set(payload, Number(at));
    this.account.ramBytes += BigInt(payload.length);
    this.covered.push({ index: region.index, offset: at, length: BigInt(payload.length) });
  }

  /** Bytes of a block that never arrived. */
  missing(index: number): bigint {
    const ranges = this.covered.filter((range) => range.index === index);
    ranges.sort((a, b) => Number(a.offset - b.offset));
    let [end, missing] = [0n, 0n];
    for (const { offset, length } of ranges) {
      if (offset > end) missing += offset - end;
      if (offset + length > end) end = offset + length;
    }
    return missing + this.#block(index).length - end;
  }
}

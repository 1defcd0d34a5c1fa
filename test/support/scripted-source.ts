/** A source played by a test: it keeps its turns as a stock QEMU does, up to the moment at which the test does something else. */
import {
  Account,
  type Announced,
  compressCommand,
  controlMessage,
  type Message,
  parseBlocks,
  parseControl,
  privateData,
  registerCommand,
  type TypeName,
} from './raw-control.ts';
import { type RawEvent, type RawOptions, RawPeer } from './raw-iwarp.ts';
import { PIECE } from './small-vm.ts';

export interface ScriptOptions extends RawOptions {
  readonly commit?: boolean;
  readonly pinAll?: boolean;
  /** As a source of ours that keeps to a budget: the bytes of RAM that it claims to have. */
  readonly pinBudget?: bigint;
  /** Replaces {@link PIECE.start}: a VM with other blocks. */
  readonly start?: Buffer;
}

/** Stages of a migration; at each one the destination has said READY and waits. */
export const STAGES = [
  'connected',
  'start-hook',
  'announced',
  'setup-done',
  'ram',
  'registered',
  'written',
  'ram-done',
  'device',
  'stream-done',
] as const;
export type Stage = (typeof STAGES)[number];

/** Length of the first half of the device state, which `device` has sent. */
const HALF = PIECE.device.length >> 1;

export class ScriptedSource implements AsyncDisposable {
  readonly account = new Account();
  blocks: readonly Announced[] = [];
  /** Of the first two chunks of the first block. */
  rkey = 0;
  #armed = false;
  #at = -1;

  readonly peer: RawPeer;
  readonly #start: Buffer;

  private constructor(peer: RawPeer, start: Buffer) {
    this.peer = peer;
    this.#start = start;
  }

  static async connect(port: number, options: ScriptOptions = {}): Promise<ScriptedSource> {
    const peer = await RawPeer.tcp(port, options.host === undefined ? {} : { host: options.host });
    const reply = await peer.request(privateData(options), options);
    if (reply.flags & 0x20) throw new Error('the destination rejected the connection');
    return new ScriptedSource(peer, options.start ?? PIECE.start);
  }

  async expect(type: TypeName): Promise<Message> {
    const event = await this.peer.next(type);
    if (event.kind !== 'send') throw new Error(`expected ${type}, got ${JSON.stringify(event, plain)}`);
    const message = parseControl(event.message);
    if (message.type !== type) throw new Error(`expected ${type}, got ${message.type}`);
    return message;
  }

  async ready(): Promise<void> {
    if (this.#armed) return;
    await this.expect('READY');
    this.#armed = true;
  }

  async say(type: TypeName, data: Uint8Array = new Uint8Array(), repeat = 1): Promise<void> {
    await this.ready();
    this.#armed = false;
    const message = controlMessage(type, data, { repeat });
    if (type !== 'COMMIT') this.account.add(message);
    this.peer.send(message);
  }

  write(rkey: number, to: bigint, payload: Uint8Array): void {
    this.account.ramBytes += BigInt(payload.length);
    this.peer.write(rkey, to, payload);
  }

  async reach(stage: Stage): Promise<void> {
    while (this.#at < STAGES.indexOf(stage)) {
      this.#at += 1;
      await this.#step(STAGES[this.#at] as Stage);
      await this.ready();
    }
  }

  /** What remains to be sent after `device`. */
  restOfDeviceState(): Buffer {
    return PIECE.device.subarray(HALF);
  }

  /** What the destination says when it gives up: everything up to the end, without READYs. */
  async farewell(): Promise<string[]> {
    return (await this.peer.untilEnd()).map(nameOf).filter((name) => name !== 'READY');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
  }

  async #step(stage: Stage): Promise<void> {
    switch (stage) {
      case 'connected':
        return;
      case 'start-hook':
        return this.say('QEMU_FILE', this.#start);
      case 'announced':
        await this.say('RAM_BLOCKS_REQUEST');
        this.blocks = parseBlocks((await this.expect('RAM_BLOCKS_RESULT')).data);
        return;
      case 'setup-done':
        await this.say('REGISTER_FINISHED');
        return this.say('QEMU_FILE', PIECE.eos);
      case 'ram':
        return this.say('QEMU_FILE', PIECE.end);
      case 'registered':
        return this.register();
      case 'written':
        // Every page is accounted for: first as zero, then some with content.
        await this.say('COMPRESS', compressCommand(0, 0, this.block(0).offset, this.block(0).length));
        await this.ready();
        this.write(this.rkey, this.block(0).address + 4096n, Buffer.alloc(100_000, 0x5a));
        return this.say('COMPRESS', compressCommand(0, 1, this.block(1).offset, 0x3000n));
      case 'ram-done':
        return this.say('REGISTER_FINISHED');
      case 'device':
        await this.say('QEMU_FILE', PIECE.eos);
        return this.say('QEMU_FILE', PIECE.device.subarray(0, HALF));
      case 'stream-done':
        return this.say('QEMU_FILE', PIECE.device.subarray(HALF));
    }
  }

  block(index: number): Announced {
    const block = this.blocks[index];
    if (!block) throw new Error(`no block ${index} was announced`);
    return block;
  }

  /** `chunks`: in addition to the first one. */
  async register(chunks = 1n): Promise<void> {
    const command = registerCommand({ key: this.block(0).offset, index: 0, chunks });
    await this.say('REGISTER_REQUEST', command);
    this.rkey = (await this.expect('REGISTER_RESULT')).data.readUInt32BE(0);
  }
}

/** A control message's type, `TERMINATE layer/type/code`, or how the connection ended. */
export function nameOf(event: RawEvent): string {
  if (event.kind === 'send') return parseControl(event.message).type;
  if (event.kind === 'terminate') return `TERMINATE ${event.layer}/${event.type}/${event.code}`;
  return event.kind;
}

const plain = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' || value instanceof Error ? String(value) : value;

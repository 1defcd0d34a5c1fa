/** A minimal iWARP peer for tests over node:net. It checks what it receives by the RFCs and can send what no honest peer sends. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  fpdu,
  MPA_FLAG,
  type MpaFrame,
  mpaFrame,
  OPCODE,
  parseFpdu,
  parseMpa,
  QUEUE,
  taggedSegment,
  type Untagged,
  untaggedSegment,
} from './raw-frames.ts';

/** What came, in wire order. `end`: the peer closed in good order; `broken`: reset, or bytes that no RFC allows. */
export type RawEvent =
  | { readonly kind: 'send'; readonly message: Buffer }
  | { readonly kind: 'write'; readonly stag: number; readonly to: bigint; readonly payload: Buffer }
  | { readonly kind: 'terminate'; readonly layer: number; readonly type: number; readonly code: number }
  | { readonly kind: 'end' }
  | { readonly kind: 'broken'; readonly error: Error };

export interface RawOptions {
  readonly revision?: 1 | 2;
  readonly crc?: boolean;
  readonly host?: string;
}

interface AwaitedMpa {
  readonly kind: MpaFrame['kind'];
  readonly resolve: (frame: MpaFrame) => void;
  readonly reject: (error: Error) => void;
}

const DEADLINE_MS = 10_000;
const SEGMENT_BYTES = 32 * 1024;

/** Rejects, naming what was waited for, when the promise does not settle in time. */
export async function withDeadline<T>(promise: Promise<T>, what: string, ms = DEADLINE_MS): Promise<T> {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`timed out after ${ms} ms waiting for ${what}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

export class RawPeer implements AsyncDisposable {
  crc = false;
  readonly #socket: Socket;
  readonly #events: RawEvent[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #mpa: AwaitedMpa | undefined;
  #wake: (() => void) | undefined;
  #partial: Buffer[] = [];
  #sent = 0;
  #received = 0;
  #over = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('end', () => this.#finish({ kind: 'end' }));
    socket.on('error', (error) => this.#finish({ kind: 'broken', error }));
    socket.on('close', () => this.#finish({ kind: 'end' }));
  }

  /** A TCP connection on which nothing has been sent. `keepOpen`: not closed when the peer closes. */
  static async tcp(
    port: number,
    options: { host?: string; from?: string; keepOpen?: boolean } = {},
  ): Promise<RawPeer> {
    const { host = '127.0.0.1', from, keepOpen = false } = options;
    const socket = createConnection({
      port,
      host,
      allowHalfOpen: keepOpen,
      ...(from !== undefined && { localAddress: from }),
    });
    const peer = new RawPeer(socket);
    await withDeadline(once(socket, 'connect'), 'a TCP connection');
    return peer;
  }

  /** The initiator's side of the handshake; the answer may be a rejection. */
  async request(privateData: Uint8Array, options: RawOptions = {}): Promise<MpaFrame> {
    const revision = options.revision ?? 2;
    const flags = (options.crc ? MPA_FLAG.crc : 0) | (revision === 2 ? MPA_FLAG.enhanced : 0);
    const reply = this.mpa('reply');
    this.raw(mpaFrame({ kind: 'request', flags, revision, privateData: Buffer.from(privateData) }));
    const frame = await reply;
    this.crc = ((flags | frame.flags) & MPA_FLAG.crc) !== 0;
    return frame;
  }

  /** The responder's side: reads the request. */
  awaitRequest(): Promise<MpaFrame> {
    return this.mpa('request');
  }

  /** The responder's answer, in the revision of the request. */
  reply(request: MpaFrame, privateData: Uint8Array, options: { reject?: boolean; crc?: boolean } = {}): void {
    const flags =
      (request.flags & (MPA_FLAG.enhanced | MPA_FLAG.crc)) |
      (options.crc ? MPA_FLAG.crc : 0) |
      (options.reject ? MPA_FLAG.reject : 0);
    this.crc = (flags & MPA_FLAG.crc) !== 0;
    this.raw(
      mpaFrame({ kind: 'reply', flags, revision: request.revision, privateData: Buffer.from(privateData) }),
    );
  }

  mpa(kind: MpaFrame['kind']): Promise<MpaFrame> {
    const frame = new Promise<MpaFrame>((resolve, reject) => {
      this.#mpa = { kind, resolve, reject };
    });
    this.#parse();
    return withDeadline(frame, `the MPA ${kind}`);
  }

  /** One SEND, in segments, with the next message sequence number. `overrides` make it a wrong one. */
  send(message: Uint8Array, overrides: Partial<Untagged> = {}): void {
    const msn = ++this.#sent;
    for (let offset = 0; offset === 0 || offset < message.length; offset += SEGMENT_BYTES) {
      const piece = message.subarray(offset, offset + SEGMENT_BYTES);
      const last = offset + SEGMENT_BYTES >= message.length;
      const header = { opcode: OPCODE.send, queue: QUEUE.send, msn, offset, last, ...overrides };
      this.frame(untaggedSegment(header, piece));
    }
  }

  /** One RDMA WRITE, in segments. */
  write(stag: number, to: bigint, payload: Uint8Array): void {
    for (let offset = 0; offset === 0 || offset < payload.length; offset += SEGMENT_BYTES) {
      const piece = payload.subarray(offset, offset + SEGMENT_BYTES);
      const last = offset + SEGMENT_BYTES >= payload.length;
      this.frame(taggedSegment(stag, BigInt.asUintN(64, to + BigInt(offset)), piece, last));
    }
  }

  terminate(layer: number, type: number, code: number): void {
    const payload = Buffer.of((layer << 4) | type, code, 0, 0);
    this.frame(untaggedSegment({ opcode: OPCODE.terminate, queue: QUEUE.terminate, msn: 1 }, payload));
  }

  frame(ulpdu: Uint8Array): void {
    this.raw(fpdu(ulpdu, this.crc));
  }

  raw(bytes: Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** The next event; the end of the connection is repeated for ever. */
  async next(what = 'the peer', ms = DEADLINE_MS): Promise<RawEvent> {
    if (this.#events.length === 0) {
      await withDeadline(new Promise<void>((resolve) => (this.#wake = resolve)), what, ms);
    }
    const event = this.#events[0] as RawEvent;
    if (event.kind !== 'end' && event.kind !== 'broken') this.#events.shift();
    return event;
  }

  /** Collects events until the connection is over. */
  async untilEnd(): Promise<RawEvent[]> {
    const events: RawEvent[] = [];
    for (;;) {
      const event = await this.next('the end of the connection');
      events.push(event);
      if (event.kind === 'end' || event.kind === 'broken') return events;
    }
  }

  /** Orderly end of this side. */
  finish(): void {
    this.#socket.end();
  }

  /** Does not end its side when the peer ends its own. */
  stayOpen(): void {
    this.#socket.allowHalfOpen = true;
  }

  /** What the kernel does when a process is killed with data unread: a reset. */
  kill(): void {
    this.#socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    this.#parse();
  }

  #parse(): void {
    try {
      if (this.#mpa) this.#parseMpa(this.#mpa);
      else while (this.#parseFpdu());
    } catch (error) {
      this.#bytes = Buffer.alloc(0);
      this.#finish({ kind: 'broken', error: error as Error });
    }
  }

  #parseMpa(waiting: AwaitedMpa): void {
    const parsed = parseMpa(this.#bytes, waiting.kind);
    if (!parsed) return;
    this.#mpa = undefined;
    this.crc = (parsed.frame.flags & MPA_FLAG.crc) !== 0;
    this.#bytes = this.#bytes.subarray(parsed.size);
    waiting.resolve(parsed.frame);
    // What follows may be FPDUs; whether they have a CRC is settled once the handshake's other half is known.
    setImmediate(() => this.#parse());
  }

  #parseFpdu(): boolean {
    const parsed = parseFpdu(this.#bytes, this.crc);
    if (!parsed) return false;
    this.#bytes = this.#bytes.subarray(parsed.size);
    this.#segment(parsed.ulpdu);
    return true;
  }

  #segment(ulpdu: Buffer): void {
    const tagged = (ulpdu.readUInt8(0) & 0x80) !== 0;
    const last = (ulpdu.readUInt8(0) & 0x40) !== 0;
    if ((ulpdu.readUInt8(0) & 0x3f) !== 1) throw new Error('DDP version or reserved bits');
    if ((ulpdu.readUInt8(1) & 0xf0) !== 0x40) throw new Error('RDMAP version or reserved bits');
    const opcode = ulpdu.readUInt8(1) & 0x0f;
    if (tagged && opcode === OPCODE.write) this.#push(writeEvent(ulpdu));
    else if (!tagged && opcode === OPCODE.send) this.#sendSegment(ulpdu, last);
    else if (!tagged && opcode === OPCODE.terminate) this.#push(terminateEvent(ulpdu));
    else throw new Error(`opcode ${opcode}, ${tagged ? 'tagged' : 'untagged'}`);
  }

  #sendSegment(ulpdu: Buffer, last: boolean): void {
    const [queue, msn, offset] = [ulpdu.readUInt32BE(6), ulpdu.readUInt32BE(10), ulpdu.readUInt32BE(14)];
    const expected = this.#partial.reduce((sum, { length }) => sum + length, 0);
    if (queue !== QUEUE.send || msn !== this.#received + 1 || offset !== expected) {
      throw new Error(
        `SEND on queue ${queue}, MSN ${msn}, offset ${offset}; ${this.#received + 1}, ${expected} due`,
      );
    }
    this.#partial.push(ulpdu.subarray(18));
    if (!last) return;
    this.#received += 1;
    this.#push({ kind: 'send', message: Buffer.concat(this.#partial.splice(0)) });
  }

  #push(event: RawEvent): void {
    if (this.#over) return;
    this.#events.push(event);
    this.#wake?.();
  }

  #finish(event: RawEvent): void {
    if (this.#over) return;
    const inside = this.#bytes.length > 0 && event.kind === 'end';
    this.#push(inside ? { kind: 'broken', error: new Error('the end came inside an FPDU') } : event);
    this.#over = true;
    this.#mpa?.reject(new Error('the connection ended in the MPA handshake'));
    this.#mpa = undefined;
  }
}

function writeEvent(ulpdu: Buffer): RawEvent {
  const [stag, to] = [ulpdu.readUInt32BE(2), ulpdu.readBigUInt64BE(6)];
  return { kind: 'write', stag, to, payload: ulpdu.subarray(14) };
}

function terminateEvent(ulpdu: Buffer): RawEvent {
  const [first, code] = [ulpdu.readUInt8(18), ulpdu.readUInt8(19)];
  return { kind: 'terminate', layer: first >> 4, type: first & 0x0f, code };
}

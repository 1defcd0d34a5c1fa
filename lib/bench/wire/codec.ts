/**
 * Messages as bytes, big-endian: a type (u16) and its fields, and nothing after them. What comes from the other end is checked against
 * ../limits.ts here, once, so that whoever gets a message may use it.
 */
import { MigrationError } from '../../errors.ts';
import { Cursor } from '../../protocol/cursor.ts';
import { decodeReason, encodeReason } from '../../protocol/reason.ts';
import { Writer } from '../../protocol/writer.ts';
import {
  CHANNELS,
  DEPTH,
  MESSAGE,
  MOST_BUFFERS,
  QUEUE_PAIRS,
  RAM,
  RAM_GRANULE,
  ROUND_MS,
  ringOf,
} from '../limits.ts';
import type { Answer, Machine, Mode, Operation, Place, Request, Shape } from './messages.ts';

/** The longest message. */
export const MESSAGE_BYTES = 2048;
/** Of a text in a machine's description, bytes. */
const TEXT_BYTES = 100;

const TYPES = {
  who: 1,
  open: 2,
  begin: 3,
  finish: 4,
  close: 5,
  migrate: 6,
  machine: 129,
  opened: 130,
  begun: 131,
  finished: 132,
  closed: 133,
  listening: 134,
  failed: 255,
} as const;

const OPERATIONS: readonly Operation[] = ['write', 'read', 'send'];
const MODES: readonly Mode[] = ['throughput', 'latency'];

export function encodeRequest(request: Request): Uint8Array {
  const writer = new Writer().u16(TYPES[request.type]);
  switch (request.type) {
    case 'open':
      putShape(writer, request).u16(request.crc ? 1 : 0);
      return putPlace(writer, request.place).finish();
    case 'begin':
      return writer.u32(request.mostMs).finish();
    case 'migrate':
      writer.u64(BigInt(request.ramBytes)).u16(request.crc ? 1 : 0);
      return writer.u16(request.channels).u32(request.mostMs).finish();
    case 'who':
    case 'finish':
    case 'close':
      return writer.finish();
  }
}

export function encodeAnswer(answer: Answer): Uint8Array {
  const writer = new Writer(256).u16(TYPES[answer.type]);
  switch (answer.type) {
    case 'machine':
      writer.u16(Math.min(0xffff, answer.cpus));
      for (const text of [answer.model, answer.kernel, answer.node, answer.tool]) putText(writer, text);
      return writer.finish();
    case 'opened':
      return putPlace(writer, answer.place).finish();
    case 'finished':
      writer.u64(BigInt(answer.userUs)).u64(BigInt(answer.systemUs));
      return writer.u16(answer.loopPermille).finish();
    case 'listening':
      return writer.u16(answer.port).finish();
    case 'failed':
      return writer.bytes(encodeReason(answer.reason as MigrationError)).finish();
    case 'begun':
    case 'closed':
      return writer.finish();
  }
}

/** @throws MigrationError PROTOCOL_ERROR */
export function decodeRequest(bytes: Uint8Array): Request {
  const fields = new Fields(bytes, 'a request of the benchmark');
  const type = fields.u16();
  switch (type) {
    case TYPES.who:
      return fields.end({ type: 'who' });
    case TYPES.open: {
      const shape = takeShape(fields);
      const crc = fields.flag();
      return fields.end({ type: 'open', ...shape, crc, place: takePlace(fields, ringBytes(shape)) });
    }
    case TYPES.begin:
      return fields.end({ type: 'begin', mostMs: fields.within('mostMs', fields.u32(), ROUND_MS) });
    case TYPES.finish:
      return fields.end({ type: 'finish' });
    case TYPES.close:
      return fields.end({ type: 'close' });
    case TYPES.migrate:
      return fields.end(takeMigration(fields));
    default:
      throw wrong(`${type} is no request of the benchmark`);
  }
}

/** @throws MigrationError PROTOCOL_ERROR */
export function decodeAnswer(bytes: Uint8Array): Answer {
  const fields = new Fields(bytes, 'an answer of the benchmark');
  const type = fields.u16();
  switch (type) {
    case TYPES.machine:
      return fields.end({ type: 'machine', ...takeMachine(fields) });
    case TYPES.opened:
      return fields.end({ type: 'opened', place: takePlace(fields) });
    case TYPES.begun:
      return fields.end({ type: 'begun' });
    case TYPES.finished:
      return fields.end({
        type: 'finished',
        userUs: fields.count('userUs'),
        systemUs: fields.count('systemUs'),
        loopPermille: fields.within('loopPermille', fields.u16(), { least: 0, most: 1000 }),
      });
    case TYPES.closed:
      return fields.end({ type: 'closed' });
    case TYPES.listening:
      return fields.end({
        type: 'listening',
        port: fields.within('port', fields.u16(), { least: 1, most: 65_535 }),
      });
    case TYPES.failed:
      return { type: 'failed', reason: decodeReason(fields.rest()) ?? { message: 'for no reason' } };
    default:
      throw wrong(`${type} is no answer of the benchmark`);
  }
}

function putShape(writer: Writer, { operation, mode, messageBytes, depth, queuePairs }: Shape): Writer {
  writer.u16(OPERATIONS.indexOf(operation)).u16(MODES.indexOf(mode));
  return writer.u32(messageBytes).u16(depth).u16(queuePairs);
}

function takeShape(fields: Fields): Shape {
  const shape = {
    operation: fields.oneOf('operation', OPERATIONS),
    mode: fields.oneOf('mode', MODES),
    messageBytes: fields.within('messageBytes', fields.u32(), MESSAGE),
    depth: fields.within('depth', fields.u16(), DEPTH),
    queuePairs: fields.within('queuePairs', fields.u16(), QUEUE_PAIRS),
  };
  const bytes = ringBytes(shape);
  if (bytes > MOST_BUFFERS) throw wrong(`${bytes} bytes of buffers are more than ${MOST_BUFFERS}`);
  return shape;
}

function putPlace(writer: Writer, { addr, length, rkey }: Place): Writer {
  return writer.u64(addr).u32(length).u32(rkey);
}

/** Of all queue pairs: what each end's place holds at least. */
function ringBytes({ messageBytes, depth, queuePairs }: Shape): number {
  return ringOf(messageBytes, depth).bytes * queuePairs;
}

function takePlace(fields: Fields, least = 0): Place {
  const place = { addr: fields.u64(), length: fields.u32(), rkey: fields.u32() };
  if (place.length < least) throw wrong(`a place of ${place.length} bytes, and ${least} are used`);
  if (place.addr + BigInt(place.length) > 1n << 64n) throw wrong('a place ends after the last address');
  return place;
}

function takeMigration(fields: Fields): Request {
  const ramBytes = fields.within('ramBytes', fields.count('ramBytes'), RAM);
  if (ramBytes % RAM_GRANULE !== 0) throw wrong(`${ramBytes} bytes of RAM are no whole MiB`);
  return {
    type: 'migrate',
    ramBytes,
    crc: fields.flag(),
    channels: fields.within('channels', fields.u16(), CHANNELS),
    mostMs: fields.within('mostMs', fields.u32(), ROUND_MS),
  };
}

function takeMachine(fields: Fields): Machine {
  const cpus = fields.within('cpus', fields.u16(), { least: 1, most: 0xffff });
  return { cpus, model: fields.text(), kernel: fields.text(), node: fields.text(), tool: fields.text() };
}

function putText(writer: Writer, text: string): void {
  const bytes = new Uint8Array(TEXT_BYTES);
  const { written } = new TextEncoder().encodeInto(text, bytes);
  writer.u16(written).bytes(bytes.subarray(0, written));
}

class Fields {
  readonly #cursor: Cursor;
  readonly #what: string;

  constructor(bytes: Uint8Array, what: string) {
    this.#what = what;
    this.#cursor = new Cursor(bytes, what, 'verbs');
  }

  u16(): number {
    return this.#cursor.u16();
  }

  u32(): number {
    return this.#cursor.u32();
  }

  u64(): bigint {
    return this.#cursor.u64();
  }

  /** A u64 that a number holds. */
  count(name: string): number {
    const value = this.#cursor.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong(`${value} is too much for ${name}`);
    return Number(value);
  }

  flag(): boolean {
    return this.within('a flag', this.#cursor.u16(), { least: 0, most: 1 }) === 1;
  }

  within(name: string, value: number, { least, most }: { least: number; most: number }): number {
    if (value >= least && value <= most) return value;
    throw wrong(`expected ${least} to ${most} for ${name} but received ${value}`);
  }

  oneOf<T>(name: string, values: readonly T[]): T {
    return values[this.within(name, this.u16(), { least: 0, most: values.length - 1 })] as T;
  }

  /** What a terminal can show without being controlled by it. */
  text(): string {
    const length = this.within('the length of a text', this.u16(), { least: 0, most: TEXT_BYTES });
    const bytes = this.#cursor.bytes(length);
    return Buffer.from(bytes)
      .toString('utf8')
      .replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ')
      .trim();
  }

  rest(): Uint8Array {
    return this.#cursor.bytes(this.#cursor.remaining);
  }

  /** Nothing may be left. */
  end<T>(message: T): T {
    if (this.#cursor.remaining === 0) return message;
    throw wrong(`${this.#what} has ${this.#cursor.remaining} bytes too many`);
  }
}

function wrong(why: string): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'verbs',
    `the other end of the benchmark broke its rules: ${why}`,
  );
}

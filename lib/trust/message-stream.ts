/**
 * A byte stream over the messages of a connection that is not protected yet: what TLS is spoken over, on either provider.
 *
 * Each message is one byte that says whether more follow in the clear, and bytes of the stream.
 */
import { Duplex } from 'node:stream';
import { MigrationError, toMigrationError } from '../errors.ts';

/** What a connection of either provider gives: whole messages, in order; null after an orderly end. */
export interface MessagePort {
  send(message: Uint8Array): Promise<void>;
  receive(): Promise<Uint8Array | null>;
}

/** More than certificate chains need; a peer that sends more than this before it has proved who it is is none. */
export const MOST_BYTES = 128 * 1024;
export const MOST_MESSAGES = 32;
/** Of the stream, in one message: each one fits into the buffers of either provider. */
export const MOST_PIECE = 16 * 1024;

const MORE = 0;
/** The sender says nothing more in the clear. */
const LAST = 1;

export class MessageStream extends Duplex {
  readonly #port: MessagePort;
  #outgoing: Buffer[] = [];
  #scheduled = false;
  /** Everything that has been written has left. */
  #flushed: Promise<void> = Promise.resolve();
  #left = MOST_BYTES;
  #messages = MOST_MESSAGES;
  #detached = false;
  #begin: () => void = () => {};
  /** Resolves when the first record of the peer has come, and may be read. */
  readonly begun = new Promise<void>((resolve) => {
    this.#begin = resolve;
  });

  constructor(port: MessagePort) {
    super({ allowHalfOpen: true });
    this.#port = port;
  }

  override _read(): void {}

  /** What is written in one turn of the event loop is one message, or as few as hold it. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (!this.#detached) {
      this.#outgoing.push(chunk);
      if (!this.#scheduled) this.#schedule();
    }
    done();
  }

  #schedule(): void {
    this.#scheduled = true;
    const turn = new Promise<void>((resolve) => setImmediate(resolve));
    this.#flushed = Promise.all([this.#flushed, turn]).then(() => this.#flush());
    this.#flushed.catch((error: unknown) => this.destroy(toMigrationError(error, 'negotiate')));
  }

  async #flush(): Promise<void> {
    this.#scheduled = false;
    const bytes = Buffer.concat(this.#outgoing);
    this.#outgoing = [];
    for (let at = 0; at < bytes.length; at += MOST_PIECE)
      await this.#port.send(Buffer.concat([Buffer.of(MORE), bytes.subarray(at, at + MOST_PIECE)]));
  }

  /** Sends what has been written, and waits until it has left. */
  async flushed(): Promise<void> {
    await this.#flushed;
  }

  /** Says that nothing more comes in the clear. What is written after this goes nowhere. */
  async sayLast(): Promise<void> {
    await this.flushed();
    this.#detached = true;
    await this.#port.send(Buffer.of(LAST));
  }

  /**
   * Gives what comes to whoever reads the stream, until the peer says that nothing more comes in the clear; the first record when it is whole and `begins`
   * has resolved.
   * @throws MigrationError TLS_FAILED: the peer ended, or sent what is no part of a handshake; and what `begins` throws
   */
  async pump(begins: () => Promise<void> = async () => {}): Promise<void> {
    let first: Buffer | undefined = Buffer.alloc(0);
    for (;;) {
      const message = await this.#next();
      if (message[0] === LAST && message.length === 1 && !first) {
        this.push(null); // who still waits for a record waits for nothing
        return;
      }
      if (message[0] !== MORE || message.length === 1) throw broken('the peer sent something else than TLS');
      const bytes = Buffer.concat([first ?? Buffer.alloc(0), message.subarray(1)]); // a copy: the provider's buffer is used again
      if (first && !isWholeRecord(bytes)) {
        first = bytes;
        continue;
      }
      if (first) await begins();
      first = undefined;
      this.#begin();
      this.push(bytes);
    }
  }

  /** The peer's next message, which counts. */
  async #next(): Promise<Uint8Array> {
    const message = await this.#port.receive();
    if (message === null)
      throw broken('the peer disconnected in the middle of the TLS handshake; its log says why');
    this.#left -= message.length;
    this.#messages -= 1;
    if (this.#left < 0 || this.#messages < 0) throw broken('the peer’s TLS handshake does not end');
    return message;
  }
}

/** RFC 8446, section 5.1: what a handshake begins with, or is refused with. */
const RECORD = { alert: 21, handshake: 22, headerBytes: 5 } as const;

/** @throws MigrationError TLS_FAILED: it is not the beginning of TLS */
function isWholeRecord(bytes: Buffer): boolean {
  if (bytes[0] !== RECORD.handshake && bytes[0] !== RECORD.alert)
    throw broken('the peer sent something else than TLS');
  return bytes.length >= RECORD.headerBytes && bytes.length >= RECORD.headerBytes + bytes.readUInt16BE(3);
}

function broken(message: string): MigrationError {
  return new MigrationError('TLS_FAILED', 'connect', message);
}

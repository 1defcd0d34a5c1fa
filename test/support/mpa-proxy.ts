/** Somebody between the two ends who changes what they say to each other in the clear: the private data of the request, and of the reply. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from './loopback-proxy.ts';
import { crc32c } from './raw-crc32c.ts';
import { MPA_FLAG, type MpaFrame, parseMpa } from './raw-frames.ts';

/** Gives as many bytes as it was given. */
export type Change = (privateData: Buffer) => Buffer;

export interface Changes {
  readonly request?: Change;
  readonly reply?: Change;
}

const LENGTH_AT = 8 + 6;
const FLAGS_AT = 8 + 8;
const CHECK_AT = 8 + 20;

/** The same with other flags in our tail, and the check value of those. */
export const withFlags =
  (change: (flags: number) => number): Change =>
  (privateData) => {
    const bytes = Buffer.from(privateData);
    bytes.writeUInt32BE(change(bytes.readUInt32BE(FLAGS_AT)) >>> 0, FLAGS_AT);
    return checked(bytes);
  };

/** The same with one byte changed, and the check value of that. */
export const withByte =
  (at: number, by = 1): Change =>
  (privateData) => {
    const bytes = Buffer.from(privateData);
    bytes.writeUInt8(bytes.readUInt8(at) ^ by, at);
    return checked(bytes);
  };

/** The check is of QEMU's bytes and our tail: what the provider says behind it is its own. */
function checked(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(0, CHECK_AT);
  bytes.writeUInt32BE(crc32c(bytes.subarray(0, 8 + bytes.readUInt16BE(LENGTH_AT))), CHECK_AT);
  return bytes;
}

export class MpaProxy extends LoopbackProxy {
  readonly #changes: Changes;

  private constructor(target: number, changes: Changes) {
    super(target);
    this.#changes = changes;
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static open(target: number, changes: Changes): Promise<MpaProxy> {
    return new MpaProxy(target, changes).listen();
  }

  protected came(source: Socket): void {
    const destination = this.dial();
    for (const socket of [source, destination]) {
      socket.on('error', () => {
        source.destroy();
        destination.destroy();
      });
    }
    pass(source, destination, 'request', this.#changes.request);
    pass(destination, source, 'reply', this.#changes.reply);
  }
}

/** The first frame changed, the rest as it is. */
function pass(
  from: Socket,
  to: Socket,
  kind: MpaFrame['kind'],
  change: Change = (privateData) => privateData,
): void {
  let first: Buffer | undefined = Buffer.alloc(0);
  from.on('data', (bytes: Buffer) => {
    if (first === undefined) {
      to.write(bytes);
      return;
    }
    first = Buffer.concat([first, bytes]);
    const parsed = parseMpa(first, kind);
    if (!parsed) return;
    const { frame, size } = parsed;
    const rejected = (frame.flags & MPA_FLAG.reject) !== 0;
    const data = rejected ? frame.privateData : change(frame.privateData);
    to.write(Buffer.concat([first.subarray(0, size - data.length), data, first.subarray(size)]));
    first = undefined;
  });
  from.on('end', () => to.end());
}

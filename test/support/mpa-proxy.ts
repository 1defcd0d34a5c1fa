/** Somebody between the two ends who changes what they say to each other in the clear: the private data of the request, and of the reply. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { crc32c } from './raw-crc32c.ts';
import { MPA_FLAG, type MpaFrame, parseMpa } from './raw-frames.ts';

/** Gives as many bytes as it was given. */
export type Change = (privateData: Buffer) => Buffer;

export interface Changes {
  readonly request?: Change;
  readonly reply?: Change;
}

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

function checked(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(0, CHECK_AT);
  bytes.writeUInt32BE(crc32c(bytes), CHECK_AT);
  return bytes;
}

export class MpaProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number, { request, reply }: Changes) {
    this.#server = createServer((source) => {
      const destination = createConnection({ port: target, host: '127.0.0.1' });
      for (const socket of [source, destination]) {
        this.#sockets.add(socket);
        socket.setNoDelay(true);
        socket.on('error', () => {
          source.destroy();
          destination.destroy();
        });
      }
      pass(source, destination, 'request', request);
      pass(destination, source, 'reply', reply);
    });
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static async open(target: number, changes: Changes): Promise<MpaProxy> {
    const proxy = new MpaProxy(target, changes);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
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

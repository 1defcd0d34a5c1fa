/** TLS as a source of ours speaks it, over the messages of a raw peer: each is a byte 0 and bytes of the stream. */
import { Duplex } from 'node:stream';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { RawPeer } from './raw-iwarp.ts';

const MORE = 0;
const PATIENCE_MS = 60_000;

/** A message of the handshake. */
export const tlsMessage = (bytes: Uint8Array): Buffer => Buffer.concat([Buffer.of(MORE), bytes]);

class TlsMessages extends Duplex {
  readonly #peer: RawPeer;

  constructor(peer: RawPeer) {
    super();
    this.#peer = peer;
    this.#pump().catch((error: Error) => this.destroy(error));
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#peer.send(tlsMessage(chunk));
    done();
  }

  async #pump(): Promise<void> {
    for (;;) {
      const event = await this.#peer.next('the TLS handshake', PATIENCE_MS);
      if (event.kind !== 'send') break;
      if (event.message[0] === MORE) this.push(event.message.subarray(1));
    }
    this.push(null);
  }
}

/** Begins a handshake, whatever certificate the destination shows. */
export function rawTls(peer: RawPeer, options: ConnectionOptions): TLSSocket {
  const socket = connect({
    ...options,
    socket: new TlsMessages(peer),
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false,
  });
  return socket.on('error', () => {});
}

/** What a client says first. */
export function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const stream = new Duplex({ read() {}, write: (chunk: Buffer) => resolve(chunk) });
    connect({ socket: stream, minVersion: 'TLSv1.3' }).on('error', () => {});
  });
}

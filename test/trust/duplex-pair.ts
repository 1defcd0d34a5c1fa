/** Two streams that are no sockets, each the other's peer. */
import { Duplex } from 'node:stream';

class End extends Duplex {
  peer: End | undefined;
  /** What has been written, byte counts. */
  readonly written: number[] = [];

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.written.push(chunk.length);
    setImmediate(() => {
      this.peer?.push(chunk);
      done();
    });
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    setImmediate(() => {
      if (!this.peer?.destroyed) this.peer?.push(null);
    });
    done(error);
  }
}

export type DuplexEnd = End;

export function duplexPair(): [server: End, client: End] {
  const [server, client] = [new End(), new End()];
  server.peer = client;
  client.peer = server;
  return [server, client];
}

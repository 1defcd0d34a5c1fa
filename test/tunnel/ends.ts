/** Both ends of a tunnel in this process, with a listener at the far side, and plain sockets to talk through it. */
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MigrationError } from '../../lib/errors.ts';
import { TunnelDestination } from '../../lib/tunnel/destination.ts';
import type {
  TunnelDestinationOptions,
  TunnelEvents,
  TunnelSourceOptions,
  TunnelStreamEnd,
} from '../../lib/tunnel/options.ts';
import { TunnelSource } from '../../lib/tunnel/source.ts';

export interface Wanted {
  readonly source?: TunnelSourceOptions;
  readonly destination?: TunnelDestinationOptions;
  /** What the local sockets are. Default unix. */
  readonly local?: 'unix' | 'tcp';
  /** Somebody in between: where the source is to dial instead of that port. */
  readonly through?: (port: number) => Promise<string>;
}

/** What an end has told. */
export class Told implements TunnelEvents {
  readonly ends: TunnelStreamEnd[] = [];
  readonly refusals: MigrationError[] = [];
  readonly #waiting = new Set<() => void>();

  closed(end: TunnelStreamEnd): void {
    this.ends.push(end);
    for (const wake of this.#waiting) wake();
  }

  refused(_who: string, error: MigrationError): void {
    this.refusals.push(error);
    for (const wake of this.#waiting) wake();
  }

  async until(done: () => boolean): Promise<void> {
    while (!done()) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }

  /** The next stream's end, or all that have come. */
  async end(count = 1): Promise<TunnelStreamEnd> {
    await this.until(() => this.ends.length >= count);
    return this.ends[count - 1] as TunnelStreamEnd;
  }

  async refusal(): Promise<MigrationError> {
    await this.until(() => this.refusals.length > 0);
    return this.refusals[0] as MigrationError;
  }
}

export class Ends implements AsyncDisposable {
  readonly source: TunnelSource;
  readonly destination: TunnelDestination;
  readonly told = { source: new Told(), destination: new Told() };
  readonly #folder: string;
  readonly #server: Server;
  readonly #accepted: Socket[] = [];
  readonly #waiting: ((socket: Socket) => void)[] = [];
  readonly #sockets = new Set<Socket>();

  static async open({ source = {}, destination = {}, local = 'unix', through }: Wanted = {}): Promise<Ends> {
    const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-tunnel-'));
    const server = createServer({ allowHalfOpen: true });
    const at = local === 'unix' ? { path: join(folder, 'in') } : { host: '127.0.0.1', port: 0 };
    server.listen(at);
    await once(server, 'listening');
    const bound = server.address();
    const to = typeof bound === 'string' ? `unix:${bound}` : `tcp:127.0.0.1:${bound?.port}`;
    const from = local === 'unix' ? `unix:${join(folder, 'out')}` : 'tcp:127.0.0.1:0';
    const ends = { folder, server, to, from };
    return Ends.#make(ends, source, destination, through);
  }

  static async #make(
    { folder, server, to, from }: { folder: string; server: Server; to: string; from: string },
    source: TunnelSourceOptions,
    destination: TunnelDestinationOptions,
    through: Wanted['through'],
  ): Promise<Ends> {
    const told = { source: new Told(), destination: new Told() };
    const far = await TunnelDestination.listen('rdma:127.0.0.1:0', to, destination, told.destination);
    const port = Number(/\d+$/.exec(far.uri)?.[0]);
    const uri = (await through?.(port)) ?? far.uri;
    const near = await TunnelSource.listen(from, uri, source, told.source);
    return new Ends(near, far, told, folder, server);
  }

  private constructor(
    source: TunnelSource,
    destination: TunnelDestination,
    told: Ends['told'],
    folder: string,
    server: Server,
  ) {
    this.source = source;
    this.destination = destination;
    this.told = told;
    this.#folder = folder;
    this.#server = server;
    server.on('connection', (socket) => {
      this.#own(socket);
      const waiting = this.#waiting.shift();
      if (waiting) waiting(socket);
      else this.#accepted.push(socket);
    });
  }

  #own(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    return socket;
  }

  /** A local connection at the source. */
  async near(): Promise<Socket> {
    const address = this.source.address;
    const [, path] = /^unix:(.*)$/.exec(address) ?? [];
    const port = Number(address.slice(address.lastIndexOf(':') + 1));
    const socket = this.#own(
      netConnect({ allowHalfOpen: true, ...(path === undefined ? { host: '127.0.0.1', port } : { path }) }),
    );
    await once(socket, 'connect');
    return socket;
  }

  /** Its other end. */
  far(): Promise<Socket> {
    const socket = this.#accepted.shift();
    if (socket) return Promise.resolve(socket);
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  async pair(): Promise<readonly [near: Socket, far: Socket]> {
    const near = await this.near();
    return [near, await this.far()];
  }

  /** Nobody listens behind the destination any more. */
  async closeServer(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.source.close();
    await this.destination.close();
    this.#server.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export const noise = (length: number): Buffer => randomFillSync(Buffer.alloc(length));

export const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Everything until the other end has ended. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => void parts.push(part));
  await once(socket, 'end');
  return Buffer.concat(parts);
}

/** How a socket ends when it does not end in order. */
export async function brokenBy(socket: Socket): Promise<string> {
  if (socket.errored) return (socket.errored as NodeJS.ErrnoException).code ?? 'unknown';
  if (socket.destroyed || socket.readableEnded) return 'end';
  return new Promise((resolve) => {
    socket.resume();
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? 'unknown'));
    socket.once('end', () => resolve('end'));
  });
}

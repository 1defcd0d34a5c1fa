/** A stream of bytes, both ways, through `rdma-migrate tunnel` on the device: its bytes, its ends, and a reset. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { RdmaMigrate } from '../interop/command.ts';
import { GUEST_ADDRESS } from '../job.ts';
import { expectText } from './doctor.ts';

const MIB = 2 ** 20;
/** Several times the ring, so that it is gone round and credits are waited for. */
const UP = 24 * MIB + 17;
const DOWN = 9 * MIB + 5;
const DEADLINE_MS = 20_000;

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function readAll(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** The error of a socket that was reset, which may have come already. */
async function brokenBy(socket: Socket): Promise<string> {
  const closed = new Promise((resolve) => void socket.resume().once('close', resolve));
  const late = delay(DEADLINE_MS, undefined, { ref: false });
  if (!socket.destroyed) await Promise.race([closed, late]);
  return (socket.errored as NodeJS.ErrnoException | null)?.code ?? 'no error';
}

/** Both ends, and what the far one connects to; all are gone when the scope ends. */
class Tunnel implements AsyncDisposable {
  readonly far: RdmaMigrate;
  readonly near: RdmaMigrate;
  readonly #server: Server;
  readonly #port: number;

  private constructor(far: RdmaMigrate, near: RdmaMigrate, server: Server, port: number) {
    this.far = far;
    this.near = near;
    this.#server = server;
    this.#port = port;
  }

  static async open(): Promise<Tunnel> {
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const verbs = ['--provider', 'verbs'];
    const to = ['--to', `tcp:127.0.0.1:${port}`];
    const far = new RdmaMigrate(['tunnel', `rdma:${GUEST_ADDRESS}:0`, ...to, ...verbs]);
    const { uri } = await far.event('listening');
    const near = new RdmaMigrate(['tunnel', '--listen', 'tcp:127.0.0.1:0', String(uri), ...verbs]);
    const listening = await near.event('listening');
    return new Tunnel(far, near, server, Number(/\d+$/.exec(String(listening.uri))?.[0]));
  }

  /** The two sockets of a new stream. */
  async stream(): Promise<readonly [near: Socket, far: Socket]> {
    const accepted = once(this.#server, 'connection') as Promise<[Socket]>;
    const near = netConnect({ port: this.#port, host: '127.0.0.1', allowHalfOpen: true });
    near.on('error', () => {});
    const [far] = await accepted;
    far.on('error', () => {});
    return [near, far];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.near.kill(), this.far.kill()]);
    this.#server.close();
  }
}

export async function tunnelled(): Promise<string> {
  await using tunnel = await Tunnel.open();
  const [near, far] = await tunnel.stream();
  const [up, down] = [randomBytes(UP), randomBytes(DOWN)];
  const closed = tunnel.near.event('notice', 'stream 1 closed');
  const began = performance.now();
  near.end(up);
  far.end(down);
  const [atFar, atNear] = await Promise.all([readAll(far), readAll(near)]);
  const seconds = (performance.now() - began) / 1000;
  expectText(sha(atFar), sha(up));
  expectText(sha(atNear), sha(down));
  await closed;
  await resetPasses(tunnel);
  return `${UP} bytes there and ${DOWN} back in ${seconds.toFixed(1)} s; a reset passes`;
}

/** What is under way is over, and the other end is told that it was cancelled, not that the connection is lost. */
async function resetPasses(tunnel: Tunnel): Promise<void> {
  const [near, far] = await tunnel.stream();
  near.write('x');
  await once(far, 'readable');
  const reset = tunnel.far.event('notice', 'cancelled at the other end');
  near.write(randomBytes(2 * MIB));
  await tunnel.near.terminate();
  await reset;
  const said = await brokenBy(far);
  if (said !== 'ECONNRESET') throw new Error(`the far socket saw ${said}, and no reset`);
}

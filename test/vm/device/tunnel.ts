/** A stream of bytes, both ways, through `rdma-migrate tunnel` on the device: its bytes, its ends, and a reset. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { RdmaMigrate } from '../interop/command.ts';
import { GUEST_ADDRESS } from '../job.ts';

const MIB = 2 ** 20;
/** Several times the ring, so that it is gone round and credits are waited for. */
const UP = 24 * MIB + 17;
const DOWN = 9 * MIB + 5;
const DEADLINE_MS = 20_000;

function expectSame(came: Buffer, sent: Buffer, way: string): void {
  if (came.equals(sent)) return;
  const least = Math.min(came.length, sent.length);
  let at = 0;
  while (at < least && came[at] === sent[at]) at++;
  let same = at;
  while (same < least && came[same] !== sent[same]) same++;
  const sample = came.subarray(at, at + 64);
  throw new Error(
    `${sent.length} bytes ${way}, and ${came.length} came; they differ from ${at} to ${same}: ${sample.toString('hex')} stands at ${sent.indexOf(sample)} of what was sent`,
  );
}

/** Until its end; what is written to it still goes on, which an iteration would cut off. */
async function readAll(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await once(socket, 'end');
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
  expectSame(atFar, up, 'there');
  expectSame(atNear, down, 'back');
  await closed;
  await resetPasses(tunnel);
  return `${UP} bytes there and ${DOWN} back in ${seconds.toFixed(1)} s; a reset passes`;
}

/** The other end is told that it was cancelled, not that the connection is lost, and its socket is reset. */
async function resetPasses(tunnel: Tunnel): Promise<void> {
  const [near, far] = await tunnel.stream();
  far.resume();
  near.write(randomBytes(2 * MIB));
  // Where something waits to be read Node takes a reset for an end.
  const deadline = performance.now() + DEADLINE_MS;
  while (far.bytesRead < 2 * MIB && performance.now() < deadline) await delay(10);
  const reset = tunnel.far.event('notice', 'cancelled at the other end');
  await tunnel.near.terminate();
  await reset;
  const said = await brokenBy(far);
  if (said !== 'ECONNRESET') throw new Error(`the far socket saw ${said}, and no reset`);
}

/** Our end outside the VM, called from within over one TCP connection: one JSON object per line each way. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Forward } from '../arguments.ts';
import { HOST_ADDRESS } from '../job.ts';
import type { Outcome } from './command.ts';
import type { OurEnd } from './our-end.ts';
import type { GuestProof } from './qemu.ts';

const METHODS = [
  'receive',
  'received',
  'refused',
  'kill',
  'send',
  'sent',
  'verify',
  'resume',
  'exists',
] as const;
type Method = (typeof METHODS)[number];

interface Request {
  readonly id: number;
  readonly method: Method;
  readonly args: readonly unknown[];
}

type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: string };

async function answer(end: OurEnd, { id, method, args }: Request): Promise<Answer> {
  try {
    if (!METHODS.includes(method)) throw new Error(`no method ${method}`);
    const call = end[method] as (...given: readonly unknown[]) => Promise<unknown>;
    return { id, value: (await call.apply(end, [...args])) ?? null };
  } catch (error) {
    return { id, failure: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** Serves `end` on 127.0.0.1, which the VM sees as 10.0.2.2. */
export async function serveEnd(end: OurEnd): Promise<Server & { readonly port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    createInterface({ input: socket }).on('line', (line) => {
      void answer(end, JSON.parse(line) as Request).then((said) => socket.write(`${JSON.stringify(said)}\n`));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { port: (server.address() as { port: number }).port });
}

/** The end served by {@link serveEnd}, with addresses as the VM sees them. */
export class RemoteEnd implements OurEnd, AsyncDisposable {
  readonly provider = 'iwarp';
  readonly #socket: Socket;
  readonly #forwards: readonly Forward[];
  readonly #pending = new Map<number, (answer: Answer) => void>();
  #nextId = 1;

  private constructor(socket: Socket, forwards: readonly Forward[]) {
    this.#socket = socket;
    this.#forwards = forwards;
    createInterface({ input: socket }).on('line', (line) => {
      const said = JSON.parse(line) as Answer;
      this.#pending.get(said.id)?.(said);
    });
  }

  static async connect(port: number, forwards: readonly Forward[]): Promise<RemoteEnd> {
    const socket = connect(port, HOST_ADDRESS);
    await once(socket, 'connect');
    return new RemoteEnd(socket, forwards);
  }

  async receive(image: string): Promise<string> {
    const uri = (await this.#call('receive', image)) as string;
    return uri.replace('127.0.0.1', HOST_ADDRESS);
  }

  received(image: string): Promise<Outcome> {
    return this.#call('received', image) as Promise<Outcome>;
  }

  refused(image: string): Promise<string> {
    return this.#call('refused', image) as Promise<string>;
  }

  async kill(image: string): Promise<void> {
    await this.#call('kill', image);
  }

  /** `uri` is an address in the VM: our end reaches it through the port that leads there. */
  async send(image: string, uri: string, pinAll: boolean, bandwidth = '0'): Promise<null> {
    const port = Number(/:(\d+)$/.exec(uri)?.[1]);
    const forward = this.#forwards.find(({ guest }) => guest === port);
    if (forward === undefined) throw new Error(`no port leads to ${uri}`);
    await this.#call('send', image, `rdma:127.0.0.1:${forward.host}`, pinAll, bandwidth);
    return null;
  }

  sent(image: string): Promise<Outcome> {
    return this.#call('sent', image) as Promise<Outcome>;
  }

  verify(image: string): Promise<number> {
    return this.#call('verify', image) as Promise<number>;
  }

  resume(image: string): Promise<GuestProof> {
    return this.#call('resume', image) as Promise<GuestProof>;
  }

  exists(image: string): Promise<boolean> {
    return this.#call('exists', image) as Promise<boolean>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }

  async #call(method: Method, ...args: readonly unknown[]): Promise<unknown> {
    const id = this.#nextId++;
    const said = new Promise<Answer>((resolve) => this.#pending.set(id, resolve));
    this.#socket.write(`${JSON.stringify({ id, method, args })}\n`);
    const got = await said;
    this.#pending.delete(id);
    if ('failure' in got) throw new Error(`outside: ${got.failure}`);
    return got.value;
  }
}

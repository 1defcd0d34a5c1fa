/** The command at both ends of a tunnel between two hosts, as an operator would start it. */
import { fileURLToPath } from 'node:url';
import type { Host } from './host.ts';
import type { Process } from './process.ts';

const COMMAND = fileURLToPath(new URL('cli/main.js', import.meta.resolve('rdma-migrate')));
const START_MS = 120_000;
const END_MS = 60_000;

export type End = 'source' | 'destination';

export interface TunnelWanted {
  readonly from: Host;
  readonly to: Host;
  readonly port: number;
  /** The socket that it makes at `from`, and the one that it connects to at `to`. */
  readonly listen: string;
  readonly connect: string;
  /** For both ends. */
  readonly options?: readonly string[];
}

export class Tunnel implements AsyncDisposable {
  readonly #ends: Readonly<Record<End, Process>>;
  readonly #wanted: TunnelWanted;
  readonly #pids = new Map<End, string>();

  static async open(wanted: TunnelWanted): Promise<Tunnel> {
    const { from, to, port, listen, connect, options = [] } = wanted;
    const uri = `rdma:${to.address}:${port}`;
    const destination = command(to, uri, '--to', `unix:${connect}`, ...options);
    const source = command(from, '--listen', `unix:${listen}`, uri, ...options);
    const tunnel = new Tunnel(wanted, { source, destination });
    try {
      for (const end of ['destination', 'source'] as const) {
        const [, pid] = await tunnel.#ends[end].says(/^pid (\d+)$/m, START_MS);
        tunnel.#pids.set(end, pid as string);
        await tunnel.#ends[end].says(/"event":"listening"/, START_MS);
      }
    } catch (error) {
      await tunnel[Symbol.asyncDispose]();
      throw error;
    }
    return tunnel;
  }

  private constructor(wanted: TunnelWanted, ends: Readonly<Record<End, Process>>) {
    this.#wanted = wanted;
    this.#ends = ends;
  }

  /** Streams that have ended, as its source has told: what each of them has carried to the destination, in bytes. */
  get carried(): number[] {
    const whole = this.#ends.source.stdout.split('\n').slice(0, -1);
    const closed = whole.filter((line) => line.includes('"STREAM_CLOSED"'));
    return closed.map((line) => Number((JSON.parse(line) as { sent?: string }).sent));
  }

  /** SIGKILL for one end. */
  async kill(end: End): Promise<void> {
    const pid = this.#pids.get(end);
    const host = end === 'source' ? this.#wanted.from : this.#wanted.to;
    if (pid === undefined) this.#ends[end].kill();
    else await host.run(END_MS, 'kill', '-KILL', pid);
    this.#pids.delete(end);
    await this.#ends[end].ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.kill('source'), this.kill('destination')]);
  }
}

/** It says first which process it is in its host: nsenter passes no signal on. */
const command = (host: Host, ...args: readonly string[]): Process =>
  host.start(
    'sh',
    '-c',
    'echo "pid $$"; exec "$@"',
    'sh',
    process.execPath,
    COMMAND,
    'tunnel',
    '--json',
    ...args,
  );

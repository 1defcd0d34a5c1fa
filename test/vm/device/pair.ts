/** `rdma-migrate` at both ends, as two processes of the VM. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type SyntheticBlock, syntheticStream } from '../../../examples/synthetic/vm.ts';
import { type Outcome, RdmaMigrate } from '../interop/command.ts';

export const MIB = 1n << 20n;

export interface Stage {
  readonly folder: string;
}

/** A VM that never ran, full of data, as an image. Made on first use. */
export async function sourceImage({ folder }: Stage, bytes: bigint): Promise<string> {
  const path = join(folder, `source-${bytes / MIB}`);
  const block: SyntheticBlock = { name: 'pc.ram', length: bytes, fill: 'random' };
  if (existsSync(path)) return path;
  const stream = `${path}.stream`;
  await writeFile(stream, syntheticStream([block]));
  await using converter = new RdmaMigrate(['image', 'from-qemu', stream, path]);
  const { exitCode, stderr } = await converter.outcome();
  if (exitCode !== 0) throw new Error(`image from-qemu ended with ${exitCode}: ${stderr}`);
  await rm(stream);
  return path;
}

export interface ReceiverOptions {
  readonly host: string;
  readonly provider: string;
  /** More options of `receive`. */
  readonly receive?: readonly string[];
}

export interface PairOptions extends ReceiverOptions {
  readonly image: string;
  /** More options of `send`. */
  readonly send?: readonly string[];
}

/** A `receive` that waits at `uri`. */
export interface Waiting {
  readonly receiver: RdmaMigrate;
  readonly uri: string;
  /** The image that it will write. */
  readonly target: string;
}

export async function startReceiver(
  { folder }: Stage,
  { host, provider, receive = [] }: ReceiverOptions,
): Promise<Waiting> {
  const target = join(folder, 'target');
  await rm(target, { recursive: true, force: true });
  const how = ['--image', target, '--provider', provider, ...receive];
  const receiver = new RdmaMigrate(['receive', `rdma:${host}:0`, ...how]);
  const { uri } = await receiver.event('listening');
  return { receiver, uri: String(uri), target };
}

/** A `receive` and a `send` to it; both are gone when the scope ends. */
export class Pair implements AsyncDisposable {
  readonly target: string;
  readonly receiver: RdmaMigrate;
  readonly sender: RdmaMigrate;

  private constructor(target: string, receiver: RdmaMigrate, sender: RdmaMigrate) {
    this.target = target;
    this.receiver = receiver;
    this.sender = sender;
  }

  static async start(stage: Stage, options: PairOptions): Promise<Pair> {
    const { image, provider, send = [] } = options;
    const { receiver, uri, target } = await startReceiver(stage, options);
    return new Pair(
      target,
      receiver,
      new RdmaMigrate(['send', '--again', image, uri, '--provider', provider, ...send]),
    );
  }

  /** Waits until RAM is under way, not just progress from before, while pages are still being pinned. */
  async underWay(): Promise<void> {
    for (;;) {
      const { ram } = await this.sender.event('progress');
      if ((ram as { 'normal-bytes': number })['normal-bytes'] > 0) return;
    }
  }

  /** How `send` and `receive` ended. */
  outcomes(): Promise<[Outcome, Outcome]> {
    return Promise.all([this.sender.outcome(), this.receiver.outcome()]);
  }

  /** @throws if any part of the image is there */
  async expectNothingKept(): Promise<void> {
    const name = basename(this.target);
    const left = (await readdir(dirname(this.target))).filter((file) => file.includes(name));
    if (left.length > 0) throw new Error(`the failed receive left ${left.join(', ')}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.sender.kill(), this.receiver.kill()]);
  }
}

/** What an image says of itself, where it comes from and went to. */
const OWN_FILES = ['manifest.json', 'sent.json'];

/** @throws unless both images hold the same VM */
export async function expectSame(left: string, right: string): Promise<void> {
  for (const file of await readdir(left)) {
    if (OWN_FILES.includes(file)) continue;
    await promisify(execFile)('cmp', [join(left, file), join(right, file)]);
  }
}

/** Runs a program of the VM to its end. */
export async function run(command: string, ...args: readonly string[]): Promise<string> {
  return (await promisify(execFile)(command, args)).stdout;
}

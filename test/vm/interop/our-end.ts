/** Our end of a migration, wherever it runs: in the VM, or outside on a machine without an RDMA device. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { verifyGuestRam } from '../../../examples/guest/verify.ts';
import { loadStream } from '../../../examples/qemu/migrate.ts';
import { type Outcome, RdmaMigrate } from './command.ts';
import { type GuestProof, proveGuest, startVm } from './qemu.ts';

export type Provider = 'iwarp' | 'verbs';

/** What a case may ask of our end. All of it is plain data, so that it can travel as JSON. Images are given by name. */
export interface OurEnd {
  readonly provider: Provider;
  /** Starts `receive`; returns the URI at which the peer reaches it. */
  receive(image: string): Promise<string>;
  /** Waits until `receive` has ended. */
  received(image: string): Promise<Outcome>;
  /** Waits until `receive` has refused a peer, or failed, and returns what it says about that. Call it before the peer comes. */
  refused(image: string): Promise<string>;
  /** Kills a `receive` or `send`. */
  kill(image: string): Promise<void>;
  /** Starts `send`. `bandwidth`: at most that many bytes a second, such as `4M`. */
  send(image: string, uri: string, pinAll: boolean, bandwidth?: string): Promise<null>;
  /** Waits until `send` has ended. */
  sent(image: string): Promise<Outcome>;
  /** Checks every page of the guest in an image; returns the pass that it was in. */
  verify(image: string): Promise<number>;
  /** Feeds the image to a new QEMU through `image to-qemu` and lets the guest go on there. */
  resume(image: string): Promise<GuestProof>;
  /** Whether anything of the image is there, including what a failure left. */
  exists(image: string): Promise<boolean>;
}

const manifest = z.object({
  blocks: z.array(z.object({ name: z.string(), file: z.string().optional() })),
});

export interface LocalEndOptions {
  readonly folder: string;
  readonly provider: Provider;
  /** Address of this machine that the peer can reach. */
  readonly address: string;
}

export class LocalEnd implements OurEnd, AsyncDisposable {
  readonly provider: Provider;
  readonly #folder: string;
  readonly #address: string;
  readonly #running = new Map<string, RdmaMigrate>();

  constructor({ folder, provider, address }: LocalEndOptions) {
    this.provider = provider;
    this.#folder = folder;
    this.#address = address;
  }

  async receive(image: string): Promise<string> {
    const uri = `rdma:${this.#address}:0`;
    const command = this.#start(image, ['receive', uri, '--image', this.#path(image), '--timeout', '120']);
    return z.string().parse((await command.event('listening')).uri);
  }

  received(image: string): Promise<Outcome> {
    return this.#command(image).outcome();
  }

  async refused(image: string): Promise<string> {
    const command = this.#command(image);
    const notice = command.event('notice', 'refused').then(({ message }) => String(message));
    const failure = command.outcome().then(({ last }) => String(last?.message));
    notice.catch(() => undefined); // it has failed instead
    return Promise.race([failure, notice.catch(() => failure)]);
  }

  kill(image: string): Promise<void> {
    return this.#command(image).kill();
  }

  async send(image: string, uri: string, pinAll: boolean, bandwidth = '0'): Promise<null> {
    const options = ['--max-bandwidth', bandwidth, ...(pinAll ? ['--pin-all'] : [])];
    this.#start(image, ['send', '--again', this.#path(image), uri, ...options]);
    return null;
  }

  sent(image: string): Promise<Outcome> {
    return this.#command(image).outcome();
  }

  async verify(image: string): Promise<number> {
    const text = await readFile(join(this.#path(image), 'manifest.json'), 'utf8');
    const ram = manifest.parse(JSON.parse(text)).blocks.find(({ name }) => name === 'pc.ram');
    return Number((await verifyGuestRam(join(this.#path(image), ram?.file ?? ''))).pass);
  }

  async resume(image: string): Promise<GuestProof> {
    const file = `${this.#path(image)}.stream`;
    await using converter = new RdmaMigrate(['image', 'to-qemu', this.#path(image), file]);
    const { exitCode, stderr } = await converter.outcome();
    if (exitCode !== 0) throw new Error(`image to-qemu ended with ${exitCode}: ${stderr}`);
    await using vm = await startVm(this.#folder, { name: `${image}-on`, incoming: 'defer', paused: true });
    try {
      await loadStream(vm, { file, ignoreShared: false });
      return await proveGuest(vm);
    } finally {
      await rm(file);
      await rm(vm.ramFile);
    }
  }

  async exists(image: string): Promise<boolean> {
    return existsSync(this.#path(image));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const command of this.#running.values()) await command.kill();
  }

  #start(image: string, args: readonly string[]): RdmaMigrate {
    const command = new RdmaMigrate([...args, '--provider', this.provider]);
    this.#running.set(image, command);
    return command;
  }

  #command(image: string): RdmaMigrate {
    const command = this.#running.get(image);
    if (command === undefined) throw new Error(`nothing was started for the image ${image}`);
    return command;
  }

  #path(image: string): string {
    return join(this.#folder, image);
  }
}

export async function localEnd(options: LocalEndOptions): Promise<LocalEnd> {
  await mkdir(options.folder, { recursive: true });
  return new LocalEnd(options);
}

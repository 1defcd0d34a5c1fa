/** One migration whose links are cut, and what has to hold after it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type DestinationTarget,
  ImageWriter,
  MigrationDestination,
  type MigrationResult,
  MigrationSource,
  openImage,
  type SourceVm,
} from '../../../lib/index.ts';
import { differingFiles, syntheticImage } from '../../support/images.ts';
import { differences, LiveGuest, MemoryTarget } from '../../support/live-guest.ts';
import { type LinkCase, RAM_BYTES } from './case.ts';
import { CuttingProxy } from './cutting-proxy.ts';

export interface Played {
  readonly source: MigrationResult;
  readonly destination: MigrationResult;
  readonly cuts: number;
  /** Bytes that were passed on towards the destination, over all streams. */
  readonly passed: number;
}

/** What is moved, and where it lands. */
interface Ends extends AsyncDisposable {
  readonly vm: SourceVm;
  readonly target: DestinationTarget;
  /** What has not arrived as it was. */
  differing(): Promise<string[]>;
}

/** A folder with an image to send, and those that have arrived. */
export class Images implements AsyncDisposable {
  readonly #folder: string;
  #arrived = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async create(): Promise<Images> {
    const images = new Images(await mkdtemp(join(tmpdir(), 'rdma-migrate-links-')));
    const block = { name: 'pc.ram', length: BigInt(RAM_BYTES), fill: 'mixed' } as const;
    await (await syntheticImage(images.#sent, [block])).close();
    return images;
  }

  get #sent(): string {
    return join(this.#folder, 'sent');
  }

  async ends(): Promise<Ends> {
    this.#arrived += 1;
    const path = join(this.#folder, `arrived-${this.#arrived}`);
    const vm = await openImage(this.#sent);
    const target = await ImageWriter.open(path);
    return {
      vm,
      target,
      differing: () => differingFiles(this.#sent, path),
      async [Symbol.asyncDispose]() {
        await vm.close();
        await target[Symbol.asyncDispose]();
        await rm(path, { recursive: true, force: true });
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function liveEnds(kind: Exclude<LinkCase['kind'], 'image'>): Promise<Ends> {
  const vm = await LiveGuest.create({
    pages: RAM_BYTES / 4096,
    workingSet: 512,
    ...(kind !== 'exact' && { tracker: kind }),
  });
  const target = new MemoryTarget();
  return {
    vm,
    target,
    differing: () => differences(vm, target),
    async [Symbol.asyncDispose]() {
      await vm[Symbol.asyncDispose]();
      await target[Symbol.asyncDispose]();
    },
  };
}

const KEY = Buffer.alloc(32, 0x5a);

/** @throws whatever an end fails with, and Error for what is not as it has to be */
export async function play(it: LinkCase, images: Images): Promise<Played> {
  const { kind, pinAll, channels, crc, tls, verify, cuts } = it;
  await using ends = await (kind === 'image' ? images.ends() : liveEnds(kind));
  const common = {
    provider: 'iwarp',
    resume: { windowMs: 30_000, retryMs: 5 },
    ...(tls && { tls: { creds: { keys: { qemu: KEY } } } }),
  } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', ends.target, common);
  await using proxy = await CuttingProxy.open(Number(destination.uri.split(':').at(-1)), cuts);
  const source = new MigrationSource(ends.vm, proxy.uri, { ...common, pinAll, channels, crc, verify });
  // Before that a connection has not been made.
  destination.on('event', (event) => {
    if (event.type === 'link' && event.state === 'connected') proxy.begin();
  });
  const received = destination.receive();
  const [sent, arrived] = await Promise.all([source.migrate(), received]);
  const played = { source: sent, destination: arrived, cuts: proxy.made, passed: proxy.passed };
  const wrong = [...(await ends.differing()), ...wrongIn(it, played)];
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return played;
}

/** Of headers, messages, keys and CRCs: for each byte of RAM, and for each connection. */
const OVERHEAD = 1.15;
const FOR_EACH_CONNECTION = 64 << 10;

function* wrongIn(it: LinkCase, { source, destination, cuts, passed }: Played): Generator<string> {
  const { channels, tls } = it;
  for (const { outcome, encrypted } of [source, destination])
    if (outcome !== 'committed' || encrypted !== tls)
      yield `the outcome is ${outcome}, encrypted ${encrypted}`;
  const resent = source['resent-bytes'];
  const unconfirmed = (cuts * channels + 1) * (32 << 20);
  if (resent > unconfirmed) yield `${resent} bytes were sent again`;
  const once = source.ram['normal-bytes'] + source['device-state-bytes'];
  const most = (once + resent) * OVERHEAD + (source.resumes + channels + cuts) * FOR_EACH_CONNECTION;
  if (passed > most) yield `${passed} bytes were passed on where ${once} and ${resent} again had to be`;
}

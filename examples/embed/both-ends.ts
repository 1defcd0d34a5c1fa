/**
 * Embeds both ends of a migration in one process, as a VMM that brings its own RAM does. Nothing is read from or written to an image;
 * the source hands over a {@link SourceVm}, the destination a {@link DestinationTarget}, both written by hand here.
 *
 *     npm run build && npx tsc -p tsconfig.examples.json && node build/node/examples/embed/both-ends.js
 *
 * Ctrl-C aborts the migration: both ends then fail with the code CANCELLED or CONNECTION_LOST, and the source's VM is as it was.
 */
import { type FileHandle, open } from 'node:fs/promises';
import {
  type DestinationTarget,
  type Mapping,
  MigrationDestination,
  MigrationSource,
  mapMemfd,
  type RamBlock,
  type ReceivedVm,
  type SourceVm,
  sealDeviceState,
  streamHeader,
} from 'rdma-migrate';

const MIB = 1n << 20n;
const PAGE = 4096;

/** The VM to be sent: two RAM blocks on memfd, as in a VMM that shares its guest's RAM with other processes. */
class ExampleVm implements SourceVm, AsyncDisposable {
  readonly layout = {
    machine: 'example-1.0',
    pageSize: PAGE,
    blocks: [
      { name: 'ram', length: 256n * MIB },
      { name: 'rom', length: 1n * MIB },
    ],
  };
  /** Any number: it distinguishes the ram section from the sections of the device state. */
  readonly ramSection = { sectionId: 1, instanceId: 0 };
  readonly blocks: readonly RamBlock[];

  private constructor(mappings: readonly Mapping[]) {
    this.blocks = this.layout.blocks.map((block, index) => ({
      ...block,
      mapping: mappings[index] as Mapping,
    }));
  }

  static async create(): Promise<ExampleVm> {
    const mappings = [];
    for (const [name, mebibytes] of [
      ['ram', 256n],
      ['rom', 1n],
    ] as const) {
      mappings.push(await mapMemfd({ name, length: mebibytes * MIB }));
    }
    return new ExampleVm(mappings);
  }

  /** What comes before RAM in QEMU's stream: it names the machine. */
  readonly before = streamHeader(this.layout);

  /** What comes after RAM: the state of the VMM's devices, opaque on its way, with an end by which a destination knows that it is whole. */
  async *after(): AsyncGenerator<Uint8Array> {
    const devices = [{ name: 'cpu', state: Buffer.from('registers of the only CPU') }];
    yield sealDeviceState({ pageSize: PAGE, devices });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

/** Where the VM lands. Calls come in the order allocate, append, commit; `abort` may come at any time and ends it. */
class ExampleTarget implements DestinationTarget, AsyncDisposable {
  blocks: RamBlock[] = [];
  /** New memfds: their pages are zero, and zeros need not be sent. */
  readonly ramIsFresh = true;
  readonly deviceState: Uint8Array[] = [];
  /** From the commit on this VM is the one to run. */
  committed = false;

  /** The source's blocks are known now: a VMM compares them with the machine it has built and throws if they differ. */
  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    for (const block of layout.blocks) {
      const mapping = await mapMemfd({ name: block.name, length: block.length });
      this.blocks.push({ ...block, mapping });
    }
    return this.blocks;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.deviceState.push(Buffer.from(bytes));
  }

  /** All RAM and device state is here. Throwing here refuses the VM: it then stays the source's. */
  async commit(): Promise<void> {
    this.committed = true;
  }

  async abort(): Promise<void> {
    if (!this.committed) await this.release();
  }

  async release(): Promise<void> {
    for (const { mapping } of this.blocks.splice(0)) await mapping.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** Prints where the migration stands until it has ended. */
async function showProgress(source: MigrationSource): Promise<void> {
  for await (const { status, phase, percentage, eta, ram } of source.progress(50)) {
    const left = eta === undefined ? '' : `, ${(eta / 1000).toFixed(1)} s left`;
    const rate = `${Math.round(ram.mbps)} Mbit/s`;
    console.log(`${status}, phase ${phase}: ${percentage} % of ${ram.total} bytes, ${rate}${left}`);
  }
}

async function migrate(vm: SourceVm, target: DestinationTarget, signal: AbortSignal): Promise<void> {
  // Port 0 takes a free one. A destination on another host listens at rdma:0.0.0.0:4444.
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
  const source = new MigrationSource(vm, destination.uri, { pinAll: true, commit: 'require', verify: true });
  source.on('notice', (message) => console.log(message));
  const [, sent, received] = await Promise.all([
    showProgress(source),
    source.migrate({ signal }),
    destination.receive({ signal }),
  ]);
  console.log('source:', sent);
  console.log('destination:', received);
}

async function main(signal: AbortSignal): Promise<void> {
  await using vm = await ExampleVm.create();
  await using target = new ExampleTarget();
  await fill(vm.blocks);
  await migrate(vm, target, signal);
  for (const [index, { name, mapping }] of vm.blocks.entries()) {
    const equal = (await mapping.digest()) === (await target.blocks[index]?.mapping.digest());
    console.log(`${name}: ${equal ? 'identical' : 'DIFFERENT'}`);
    if (!equal) process.exitCode = 1;
  }
}

/** In place of a guest: writes half of each block. A VMM's guest has its RAM mapped; JavaScript reaches it through the kernel. */
async function fill(blocks: readonly RamBlock[]): Promise<void> {
  await using memory = await open('/proc/self/mem', 'r+');
  for (const { mapping } of blocks) {
    for (let offset = 0n; offset < mapping.length; offset += 2n * MIB) {
      await writeAt(
        memory,
        mapping.address + offset,
        Buffer.alloc(Number(MIB), `${mapping.address + offset} `),
      );
    }
  }
}

async function writeAt(memory: FileHandle, address: bigint, bytes: Buffer): Promise<void> {
  const { bytesWritten } = await memory.write(bytes, 0, bytes.length, Number(address));
  if (bytesWritten !== bytes.length)
    throw new Error(`only ${bytesWritten} bytes could be written at ${address}`);
}

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Error('Ctrl-C')));
await main(interrupt.signal);

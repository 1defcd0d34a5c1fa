/**
 * The program as a VM: its memory is the VM's RAM, and what `freeze()` gives is a device's state. A VMM whose guest has queue pairs on its RAM does
 * the same: docs/moving-connections.md.
 */
import {
  type DestinationTarget,
  type Guest,
  mapCaller,
  openDeviceState,
  type RamBlock,
  type ReceivedVm,
  type SourceVm,
  sealDeviceState,
  streamHeader,
  type TrackerChoice,
  trackDirty,
} from 'rdma-migrate';
import {
  type Domain,
  type Endpoint,
  type ExpectedMove,
  expectMove,
  type MemoryRegion,
  type Move,
  openDomain,
  type QueuePair,
  type Thawed,
  thaw,
} from 'rdma-migrate/verbs';
import { addressOf, Layout, PAGE, pageAligned, type Traffic } from './layout.ts';
import { Program } from './program.ts';
import { now } from './sampler.ts';

const MACHINE = 'moving-program-1.0';
const RAM = 'ram';
const DEVICES = { program: 'program', rdma: 'rdma' } as const;

/**
 * What becomes of connections. `ahead`: they move, and their peers connect to the new place before the pause; `in-pause`: in it. `scratch`: they do
 * not move; the program makes others there, and its partner has to be told. Only to compare with.
 */
export type MoveWay = 'ahead' | 'in-pause' | 'scratch';

export interface Leaving {
  readonly domain: Domain;
  readonly program: Program;
  readonly partner: Endpoint;
  /** Listeners of the new place. */
  readonly to: readonly Endpoint[];
  readonly way: MoveWay;
  readonly tracker: TrackerChoice;
  readonly longestPauseMs: number;
  readonly drainMs: number;
}

/** What the pause consisted of, milliseconds of the machine's clock. */
export interface Times {
  prepareBegan: number;
  prepared: number;
  stopped: number;
  frozen: number;
}

/** A program that leaves: its source VM, and the move of its connections. */
export class LeavingVm {
  readonly #leaving: Leaving;
  /** None from scratch. */
  readonly #move: Promise<Move> | undefined;
  readonly #announced: Promise<Uint8Array> | undefined;
  readonly times: Times = { prepareBegan: now(), prepared: 0, stopped: 0, frozen: 0 };
  #image: Uint8Array | undefined;

  constructor(leaving: Leaving) {
    this.#leaving = leaving;
    const { domain, program, to, way, longestPauseMs } = leaving;
    if (way === 'scratch') return;
    let tell: (announcement: Uint8Array) => void = () => {};
    this.#announced = new Promise((resolve) => {
      tell = resolve;
    });
    this.#move = domain.prepareMove({
      to,
      ahead: way === 'ahead',
      longestPauseMs,
      blocks: { [RAM]: program.parts.memory },
      announce: tell,
    });
    this.#move.then(
      () => {
        this.times.prepared = now();
      },
      tell as () => void,
    );
  }

  /** As its migration sees it. The peers look for the new place while RAM is copied. */
  async toSource(): Promise<SourceVm> {
    const { domain, program, tracker } = this.#leaving;
    const { memory } = program.parts;
    const address = await addressOf(domain, memory);
    const mapping = await mapCaller({ address, length: BigInt(memory.byteLength) });
    const blocks: RamBlock[] = [{ name: RAM, length: mapping.length, mapping }];
    const guest: Guest = {
      tracker: await trackDirty(blocks, { kind: tracker, guestWritesHere: true }),
      // Its connections stand still before the last pass: nothing is placed any more.
      pause: () => this.#pause(),
      resume: () => this.#stay(),
    };
    const device = (): Uint8Array => this.#deviceState();
    return {
      layout: { machine: MACHINE, pageSize: PAGE, blocks },
      blocks,
      ramSection: { sectionId: 1, instanceId: 0 },
      before: streamHeader({ machine: MACHINE, pageSize: PAGE }),
      ...(this.#announced && { description: await this.#announced }),
      guest,
      async *after() {
        yield device();
      },
    };
  }

  async #pause(): Promise<void> {
    const { program, drainMs } = this.#leaving;
    const move = await this.#move;
    this.times.stopped = now();
    program.stop();
    if (move !== undefined) this.#image = await move.freeze({ drainMs });
    else await Promise.all(program.parts.queuePairs.map((each) => each.disconnect()));
    this.times.frozen = now();
  }

  async #stay(): Promise<void> {
    if (this.#move === undefined) throw new Error('its connections are gone');
    await (await this.#move).abort();
    this.#leaving.program.run();
  }

  #deviceState(): Uint8Array {
    const { partner, program } = this.#leaving;
    const { traffic } = program.parts.layout;
    return sealDeviceState({
      pageSize: PAGE,
      devices: [
        { name: DEVICES.program, state: Buffer.from(JSON.stringify({ traffic, partner })) },
        { name: DEVICES.rdma, state: this.#image ?? Buffer.alloc(0) },
      ],
    });
  }

  /** The new place has it. */
  async commit(): Promise<void> {
    await (await this.#move)?.commit();
  }

  /** Nobody came so far that the guest was paused, or nobody knows who has it: the peers are asked. */
  async abort(): Promise<void> {
    const move = await this.#move?.catch(() => undefined);
    await move?.abort();
  }
}

/** What the program has to know besides its memory. */
interface Known {
  readonly traffic: Traffic;
  readonly partner: Endpoint;
}

export interface Arrived extends Pick<Known, 'partner'> {
  readonly domain: Domain;
  readonly program: Program;
  readonly peersAreHere: Promise<void>;
}

/** Where a program lands. */
export class ArrivingVm implements DestinationTarget, AsyncDisposable {
  readonly ramIsFresh = true;
  #scratch: Domain | undefined;
  #expected: ExpectedMove | undefined;
  #memory: Uint8Array | undefined;
  #state = Buffer.alloc(0);
  #thawed: Thawed | undefined;
  #program: Program | undefined;
  #known: Known | undefined;

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const [block, ...rest] = layout.blocks;
    if (layout.machine !== MACHINE || block?.name !== RAM || rest.length > 0)
      throw new Error('this is another machine');
    this.#scratch ??= await openDomain({ provider: 'iwarp' });
    this.#memory = await pageAligned(this.#scratch, Number(block.length));
    const address = await addressOf(this.#scratch, this.#memory);
    const mapping = await mapCaller({ address, length: block.length });
    return [{ ...block, mapping }];
  }

  /** What the source announces: the peers may come from here on. */
  async describe(announcement: Uint8Array): Promise<void> {
    this.#expected = await expectMove(announcement);
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#state = Buffer.concat([this.#state, bytes]);
  }

  /** All that can go wrong goes wrong here, where the old place can go on still. */
  async commit(): Promise<void> {
    const devices = openDeviceState(this.#state);
    const stateOf = (name: string): Uint8Array =>
      devices.find((each) => each.name === name)?.state ?? new Uint8Array();
    this.#known = JSON.parse(Buffer.from(stateOf(DEVICES.program)).toString()) as Known;
    const { traffic } = this.#known;
    if (stateOf(DEVICES.rdma).length === 0) return; // from scratch
    const memory = this.#memory as Uint8Array;
    const expected = this.#expected;
    this.#expected = undefined;
    this.#thawed = await thaw(stateOf(DEVICES.rdma), { memory: () => memory, ...(expected && { expected }) });
    const { regions, queuePairs } = this.#thawed;
    this.#program = new Program({
      layout: new Layout(traffic),
      memory,
      region: regions[0] as MemoryRegion,
      queuePairs: queuePairs as QueuePair[],
      connects: true,
    });
  }

  /** The migration is over, and it lives here. Resolves when every peer is there. */
  async take(): Promise<Arrived> {
    const [thawed, program, known] = [this.#thawed, this.#program, this.#known];
    if (known === undefined) throw new Error('nothing has arrived');
    const { partner } = known;
    void this.#scratch?.close(); // not in the pause
    if (thawed === undefined || program === undefined) return await this.#fromScratch(known);
    this.#thawed = undefined;
    program.run();
    return { domain: thawed.domain, program, partner, peersAreHere: thawed.takeOver() };
  }

  async #fromScratch({ traffic, partner }: Known): Promise<Arrived> {
    const domain = await openDomain({ provider: 'iwarp' });
    const program = await Program.create(domain, traffic, true, undefined, this.#memory);
    const peersAreHere = program.connect(partner).then(() => program.run());
    return { domain, program, partner, peersAreHere };
  }

  async abort(): Promise<void> {
    await this.#expected?.close();
    await this.#thawed?.close();
    await this.#scratch?.close();
    this.#expected = this.#thawed = this.#scratch = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.abort();
  }
}

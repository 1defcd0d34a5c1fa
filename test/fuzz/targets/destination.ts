/**
 * The destination's state machine as a session drives it: what is in a message feeds the stream parser, whose hooks change the state. Memory
 * stays out of it, so that many conversations fit into a second.
 */
import type { ErrorCode } from '../../../lib/errors.ts';
import {
  type AnnouncedBlock,
  checkRange,
  checkRegister,
  checkUnregister,
  layOut,
} from '../../../lib/migration/destination/bounds.ts';
import {
  type DestinationAction,
  type DestinationState,
  step,
} from '../../../lib/migration/destination/destination-machine.ts';
import { SentDigest } from '../../../lib/protocol/commit.ts';
import { type ControlMessage, decodeControl, encodeControl } from '../../../lib/protocol/control.ts';
import { StreamParser } from '../../../lib/protocol/stream.ts';
import { DeviceStateCheck } from '../../../lib/protocol/tail.ts';
import type { RamBlockLayout } from '../../../lib/ram/vm.ts';
import type { Random } from '../../campaign/random.ts';
import { announced, messages, trace, traceStream } from '../../replay/trace.ts';
import { PIECE, SMALL_BLOCKS } from '../../support/small-vm.ts';
import { Finding, refused } from '../judge.ts';
import { controlMessage } from '../messages.ts';
import { mutate, reorder } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['PROTOCOL_ERROR', 'STREAM_ERROR', 'VERSION_MISMATCH', 'BLOCK_MISMATCH'];
const HEADER = 16;

export const destination: Target = {
  name: 'destination',
  feeds:
    'the destination’s state machine with conversations of a source: made ones and captured ones, damaged in order and in bytes',
  reaches: [
    'announce-blocks',
    'zero',
    'register',
    'unregister',
    'commit',
    'append-device-state',
    'PROTOCOL_ERROR',
    'STREAM_ERROR',
  ],
  play(random, hit) {
    const commit = random.chance(0.7);
    const damaged = random.chance(0.9);
    const { sends: honest, blocks } = random.chance(0.2) ? captured(random) : conversation(random, commit);
    const sends = damaged ? damage(random, honest) : honest;
    const end = new Conversation(commit, blocks, hit);
    try {
      for (const send of sends) end.take(send);
      hit('all taken');
    } catch (error) {
      if (!damaged) throw error;
      refused(error, CODES, hit);
    }
  },
};

class Conversation {
  readonly #parser = new StreamParser('rdma');
  readonly #account = new SentDigest();
  readonly #tail = new DeviceStateCheck();
  readonly #commit: boolean;
  readonly #hit: Hit;
  #state: DestinationState = { name: 'stream' };
  /** What the source was told, if its conversation was captured. */
  readonly #announced: readonly AnnouncedBlock[] | undefined;
  #blocks: readonly AnnouncedBlock[] = [];

  constructor(commit: boolean, announced: readonly AnnouncedBlock[] | undefined, hit: Hit) {
    this.#commit = commit;
    this.#announced = announced;
    this.#hit = hit;
  }

  take(send: Uint8Array): void {
    const message = decodeControl(send);
    const next = step(this.#state, message);
    this.#state = next.state;
    this.#hit(next.action.do);
    if (message.type !== 'COMMIT') this.#account.add(send, message);
    this.#perform(next.action);
  }

  #perform(action: DestinationAction): void {
    switch (action.do) {
      case 'feed-stream':
        this.#parser.push(action.bytes);
        this.#parse();
        return;
      case 'resume-stream':
        this.#parse();
        return;
      case 'append-device-state':
        this.#tail.push(action.bytes);
        this.#tail.result();
        return;
      case 'zero':
        this.#isWithin(checkRange(this.#blocks, action.command, 'COMPRESS'));
        return;
      case 'register':
        for (const command of action.commands) this.#isWithin(checkRegister(this.#blocks, command));
        return;
      case 'unregister':
        for (const command of action.commands) checkUnregister(this.#blocks, command);
        return;
      case 'commit':
        this.#account.commit(0n);
    }
  }

  #isWithin({ index, span }: { index: number; span: { offset: bigint; length: bigint } }): void {
    const { length } = this.#blocks[index] ?? { length: 0n };
    if (span.offset < 0n || span.length <= 0n || span.offset + span.length > length)
      throw new Finding(`${span.length} bytes at ${span.offset} were taken for a block of ${length}`);
  }

  #parse(): void {
    for (let event = this.#parser.next(); event; event = this.#parser.next()) {
      if (event.type === 'ram-start') this.#allocate(event.blocks);
      if (event.type === 'hook') {
        this.#state = { name: 'hook', section: event.section, blocksAnnounced: false };
        return;
      }
      if (event.type === 'ram-end') {
        this.#state = { name: 'device', commit: this.#commit };
        this.#tail.push(this.#parser.takeBuffered());
        return;
      }
    }
  }

  #allocate(blocks: readonly RamBlockLayout[]): void {
    for (const { name, length } of blocks)
      if (length <= 0n || !/^[\x20-\x7e]{1,255}$/.test(name))
        throw new Finding(`a block '${name}' of ${length}`);
    this.#blocks = this.#announced ?? layOut(blocks);
  }
}

interface Honest {
  readonly sends: readonly Uint8Array[];
  readonly blocks?: readonly AnnouncedBlock[];
}

/** What an honest source of ours says of a small VM. */
function conversation(random: Random, commit: boolean): Honest {
  const pc = layOut(SMALL_BLOCKS)[0] as { offset: bigint; length: bigint };
  const ram: ControlMessage[] = [
    {
      type: 'REGISTER_REQUEST',
      commands: [{ key: pc.offset, blockIndex: 0, chunks: BigInt(random.below(4)) }],
    },
    {
      type: 'COMPRESS',
      value: 0,
      blockIndex: 0,
      offset: pc.offset,
      length: BigInt(4096 * (1 + random.below(8))),
    },
    { type: 'UNREGISTER_REQUEST', commands: [{ key: BigInt(random.below(4)), blockIndex: 0, chunks: 0n }] },
    ...(random.chance(0.3) ? [{ type: 'ALIVE' } as const] : []),
  ];
  const digest = new Uint8Array(32);
  const all: ControlMessage[] = [
    { type: 'QEMU_FILE', bytes: PIECE.start },
    { type: 'RAM_BLOCKS_REQUEST' },
    { type: 'REGISTER_FINISHED' },
    { type: 'QEMU_FILE', bytes: PIECE.eos },
    { type: 'QEMU_FILE', bytes: PIECE.part },
    ...ram,
    { type: 'REGISTER_FINISHED' },
    { type: 'QEMU_FILE', bytes: PIECE.eos },
    { type: 'QEMU_FILE', bytes: PIECE.end },
    ...ram.slice(0, random.below(ram.length)),
    { type: 'REGISTER_FINISHED' },
    { type: 'QEMU_FILE', bytes: PIECE.eos },
    { type: 'QEMU_FILE', bytes: PIECE.device },
    ...(commit
      ? [
          {
            type: 'COMMIT',
            streamBytes: 1n,
            ramBytes: 1n,
            zeroBytes: 1n,
            rounds: 3,
            sentDigest: digest,
          } as const,
        ]
      : []),
  ];
  return { sends: all.map(encodeControl) };
}

const traces = new Map<string, Honest>();

/** What a stock QEMU said to another. */
function captured(random: Random): Honest {
  const name = random.pick(['pin-all', 'dynamic', 'running']);
  const known = traces.get(name) ?? readTrace(name);
  traces.set(name, known);
  return known;
}

function readTrace(name: string): Honest {
  const lines = trace(name);
  const { names } = traceStream(lines);
  const blocks = announced(lines).map(({ offset, length }, index) => ({
    name: names[index] ?? '',
    offset,
    length,
  }));
  return { sends: messages(lines, 'source').map(encodeLine), blocks };
}

function encodeLine({ type, repeat, padding, data }: ReturnType<typeof messages>[number]): Uint8Array {
  const header = Buffer.alloc(HEADER);
  const numbers = { QEMU_FILE: 3, RAM_BLOCKS_REQUEST: 4, COMPRESS: 6, REGISTER_REQUEST: 7 };
  const more = { REGISTER_FINISHED: 9, UNREGISTER_REQUEST: 10 };
  const number = { ...numbers, ...more }[type as string];
  if (number === undefined) throw new Error(`a source says ${type}`);
  for (const [index, value] of [data.length, number, repeat, padding].entries())
    header.writeUInt32BE(value, 4 * index);
  return Buffer.concat([header, data]);
}

function damage(random: Random, sends: readonly Uint8Array[]): Uint8Array[] {
  const others = [encodeControl(controlMessage(random)), encodeControl(controlMessage(random))];
  if (random.chance(0.4)) return reorder(random, sends, others);
  const place = random.below(sends.length);
  return sends.map((send, index) => (index === place ? damagedSend(random, send) : send));
}

/** Half of the time its length is right again, so that what it carries is looked at. */
function damagedSend(random: Random, send: Uint8Array): Uint8Array {
  const bytes = mutate(random, send);
  if (bytes.length >= HEADER && random.chance(0.6)) {
    Buffer.from(send.subarray(0, 8)).copy(bytes);
    bytes.writeUInt32BE(bytes.length - HEADER, 0);
  }
  return bytes;
}

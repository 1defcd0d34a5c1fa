import { type ErrorCode, MigrationError } from '../../../lib/errors.ts';
import { SentDigest } from '../../../lib/protocol/commit.ts';
import {
  type ControlMessage,
  type ControlType,
  decodeControl,
  encodeControl,
} from '../../../lib/protocol/control.ts';
import type { Connection, Received } from '../../../lib/transport/connection.ts';
import { SourceTurns } from '../../../lib/transport/turns.ts';
import type { Random } from '../../campaign/random.ts';
import { Finding, triedLater } from '../judge.ts';
import { controlMessage } from '../messages.ts';
import { mutate, reorder } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

/** CONNECTION_LOST is this target's own: the destination has nothing more to say. */
const CODES: readonly ErrorCode[] = ['PROTOCOL_ERROR', 'CONNECTION_LOST'];
const LIMITS = { timeoutMs: 1000 };

export const sourceTurns: Target = {
  name: 'source-turns',
  feeds: 'the source’s turn-taking with the answers of a destination, damaged in order and in bytes',
  reaches: [
    'READY',
    'REGISTER_RESULT',
    'RAM_BLOCKS_RESULT',
    'COMMITTED',
    'all said',
    'PROTOCOL_ERROR',
    'CONNECTION_LOST',
  ],
  async play(random, hit) {
    const damaged = random.chance(0.9);
    const honest = answers(random);
    const peer = new Peer(damaged ? damage(random, honest) : honest, hit);
    const turns = new SourceTurns(peer as unknown as Connection, LIMITS, new SentDigest());
    const done = await triedLater(CODES, hit, () => converse(turns));
    if (done) hit('all said');
    else if (!damaged) throw new Finding('an honest destination was refused');
    if (peer.sent > peer.ready) throw new Finding(`${peer.sent} messages were said in ${peer.ready} turns`);
  },
};

async function converse(turns: SourceTurns): Promise<true> {
  await turns.send({ type: 'QEMU_FILE', bytes: Buffer.of(1) });
  await turns.request({ type: 'RAM_BLOCKS_REQUEST' }, 'RAM_BLOCKS_RESULT');
  await turns.request(
    { type: 'REGISTER_REQUEST', commands: [{ key: 0n, blockIndex: 0, chunks: 0n }] },
    'REGISTER_RESULT',
  );
  await turns.send({ type: 'REGISTER_FINISHED' });
  await turns.ready();
  const digest = new Uint8Array(32);
  const commit: ControlMessage = {
    type: 'COMMIT',
    streamBytes: 1n,
    ramBytes: 1n,
    zeroBytes: 1n,
    rounds: 1,
    sentDigest: digest,
  };
  await turns.request(commit, 'COMMITTED');
  return true;
}

const ORDER: readonly ControlType[] = [
  ...(['READY', 'READY', 'RAM_BLOCKS_RESULT', 'READY', 'REGISTER_RESULT'] as const),
  ...(['READY', 'READY', 'COMMITTED'] as const),
];

const answers = (random: Random): Uint8Array[] =>
  ORDER.map((type) => encodeControl(controlMessage(random, type)));

function damage(random: Random, sends: readonly Uint8Array[]): Uint8Array[] {
  if (random.chance(0.5)) return reorder(random, sends, [encodeControl(controlMessage(random))]);
  const place = random.below(sends.length);
  return sends.map((send, index) => (index === place ? mutate(random, send) : send));
}

/** What turns use of a connection. */
class Peer {
  readonly phase = 'ram';
  readonly waiting = undefined;
  sent = 0;
  ready = 0;
  readonly #sends: Uint8Array[];
  readonly #hit: Hit;

  constructor(sends: readonly Uint8Array[], hit: Hit) {
    this.#sends = [...sends];
    this.#hit = hit;
  }

  async send(message: ControlMessage, _limits: unknown, posted: (bytes: Uint8Array) => void): Promise<void> {
    this.sent += 1;
    posted(encodeControl(message));
  }

  async receive(): Promise<Received> {
    const bytes = this.#sends.shift();
    if (bytes === undefined) throw new MigrationError('CONNECTION_LOST', 'ram', 'the destination has gone');
    const message = decodeControl(bytes);
    this.#hit(message.type);
    if (message.type === 'READY') this.ready += 1;
    return { message, bytes };
  }
}

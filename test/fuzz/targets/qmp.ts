import type { MigrationError } from '../../../lib/errors.ts';
import { LineSplitter } from '../../../lib/qmp/lines.ts';
import { parseMessage } from '../../../lib/qmp/messages.ts';
import type { Random } from '../../campaign/random.ts';
import { refused, same } from '../judge.ts';
import { mutate, mutateText, pieces, randomBytes } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';
import { mutateTree, type Tree } from '../values.ts';

const SEEDS: readonly Tree[] = [
  { QMP: { version: { qemu: { micro: 0, minor: 2, major: 7 }, package: 'v7.2.0' }, capabilities: ['oob'] } },
  { return: {}, id: 1 },
  { return: [{ name: 'x', 'default-value': 1 }], id: 3 },
  { error: { class: 'CommandNotFound', desc: 'The command x has not been found' }, id: 2 },
  { event: 'MIGRATION', data: { status: 'completed' }, timestamp: { seconds: 1, microseconds: 2 } },
  { event: 'STOP', timestamp: { seconds: 1, microseconds: 2 } },
];
/** Of this target's splitter, so that lines that are too long are cheap. */
const LIMIT = 4096;

export const qmp: Target = {
  name: 'qmp',
  feeds: 'the QMP client’s line splitter and message reader with a damaged conversation, in pieces',
  reaches: ['greeting', 'return', 'error', 'event', 'PROTOCOL_ERROR', 'too long'],
  play(random, hit) {
    const bytes = conversation(random);
    const whole = read([bytes], hit);
    same(
      'what comes in pieces',
      read(pieces(random, bytes), () => {}),
      whole,
    );
  },
};

function conversation(random: Random): Buffer {
  const lines = Array.from({ length: 1 + random.below(4) }, () => {
    const seed = random.pick(SEEDS);
    const value = random.chance(0.6) ? mutateTree(random, seed) : seed;
    const text = JSON.stringify(value);
    return random.chance(0.2) ? mutateText(random, text) : text;
  });
  if (random.chance(0.05)) lines.push('x'.repeat(LIMIT + random.below(3) - 1));
  const bytes = Buffer.from(`${lines.join(random.pick(['\n', '\r\n']))}\n`);
  if (random.chance(0.05)) return Buffer.concat([bytes, randomBytes(random, 50)]);
  return random.chance(0.3) ? mutate(random, bytes) : bytes;
}

/** What was read, up to the first error; that as its code and message. */
function read(chunks: Iterable<Uint8Array>, hit: Hit): unknown[] {
  const splitter = new LineSplitter(LIMIT);
  const all: unknown[] = [];
  try {
    for (const chunk of chunks) {
      for (const line of splitter.push(Buffer.from(chunk))) {
        const message = parseMessage(line);
        hit(message.kind);
        all.push(message);
      }
    }
  } catch (error) {
    refused(error, ['PROTOCOL_ERROR'], hit);
    const { message } = error as MigrationError;
    if (message.includes('more than')) hit('too long');
    all.push(message);
  }
  return all;
}

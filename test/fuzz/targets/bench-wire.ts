import { decodeAnswer, decodeRequest, encodeAnswer, encodeRequest } from '../../../lib/bench/wire/codec.ts';
import { decodeHello, decodeWelcome, encodeHello, encodeWelcome } from '../../../lib/bench/wire/hello.ts';
import type { Answer, Request } from '../../../lib/bench/wire/messages.ts';
import type { Random } from '../../campaign/random.ts';
import { Finding, same, tried } from '../judge.ts';
import { hostile32, mutate } from '../mutate.ts';
import type { Hit, Target } from '../target.ts';

export const benchWire: Target = {
  name: 'bench-wire',
  feeds: 'what the two ends of `rdma-migrate bench` tell each other, damaged',
  reaches: [
    'who',
    'open',
    'begin',
    'migrate',
    'machine',
    'opened',
    'finished',
    'listening',
    'hello',
    'PROTOCOL_ERROR',
  ],
  play(random, hit) {
    const kind = random.below(3);
    if (kind === 0) both(random, hit, encodeRequest(random.pick(REQUESTS)), decodeRequest, encodeRequest);
    else if (kind === 1) both(random, hit, encodeAnswer(random.pick(ANSWERS)), decodeAnswer, encodeAnswer);
    else hellos(random, hit);
  },
};

const place = { addr: 1n << 40n, length: 1 << 28, rkey: 7 };
const shape = {
  operation: 'write',
  mode: 'throughput',
  messageBytes: 65_536,
  depth: 16,
  queuePairs: 2,
} as const;
const REQUESTS: readonly Request[] = [
  { type: 'who' },
  { type: 'open', crc: true, place, ...shape },
  { type: 'begin', mostMs: 1000 },
  { type: 'finish' },
  { type: 'migrate', ramBytes: 1 << 28, crc: false, channels: 2, mostMs: 1000 },
];
const ANSWERS: readonly Answer[] = [
  { type: 'machine', cpus: 2, model: 'a', kernel: 'b', node: 'c', tool: 'd' },
  { type: 'opened', place },
  { type: 'begun' },
  { type: 'finished', userUs: 1, systemUs: 2, loopPermille: 3 },
  { type: 'listening', port: 4444 },
];

function both<T extends { readonly type: string }>(
  random: Random,
  hit: Hit,
  valid: Uint8Array,
  decode: (bytes: Uint8Array) => T,
  encode: (message: T) => Uint8Array,
): void {
  const damaged = random.chance(0.8);
  const read = tried(['PROTOCOL_ERROR'], hit, () => decode(damaged ? mutate(random, valid) : valid));
  if (!damaged && !read) throw new Finding('an undamaged message is refused');
  if (!read) return;
  hit(read.type);
  if (read.type !== 'failed') same('a message that was read and written', decode(encode(read)), read);
}

function hellos(random: Random, hit: Hit): void {
  const version = random.chance(0.9) ? 1 : random.below(65_536);
  const hello = encodeHello({ version, kind: 'data', index: hostile32(random), token: 1n });
  if (decodeHello(mutate(random, hello))) hit('hello');
  const welcome = encodeWelcome({ version, status: 'welcome', token: 1n });
  tried(['PROTOCOL_ERROR'], hit, () => decodeWelcome(mutate(random, welcome)));
}

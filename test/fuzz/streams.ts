/** Migration streams to be damaged: in parts, so that order can be damaged as well as bytes. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Random } from '../campaign/random.ts';
import { Builder } from '../protocol/builder.ts';
import {
  beginning,
  blockList,
  capabilities,
  description,
  device,
  eos,
  footer,
  header,
  hook,
  pageBits,
  startHeader,
} from '../protocol/streams.ts';
import { type TraceLine, trace, traceStream } from '../replay/trace.ts';
import { mutate, randomBytes, reorder } from './mutate.ts';

const PAGE = 4096;

export type Form = 'rdma' | 'pages';

/** A VM in the stream: small, so that many fit into a second. */
const BLOCKS = [
  { name: 'pc.ram', length: BigInt(4 * PAGE) },
  { name: '/rom@etc/acpi/tables', length: BigInt(2 * PAGE) },
];

/** The parts of a whole stream of one form. */
export function streamParts(random: Random, form: Form): Uint8Array[] {
  const real = form === 'rdma' && random.chance(0.1);
  return real ? random.pick(realStreams()) : madeStream(random, form);
}

/** A stream that is damaged in its parts, in its bytes, or in both. */
export function damagedStream(random: Random, parts: readonly Uint8Array[]): Buffer {
  const kind = random.next();
  if (kind < 0.6) {
    // One part is damaged: most damage to the whole would hit pages, which mean nothing.
    const place = random.below(parts.length);
    return Buffer.concat(parts.map((part, index) => (index === place ? mutate(random, part) : part)));
  }
  const reordered = Buffer.concat(reorder(random, parts));
  return kind < 0.85 ? reordered : mutate(random, reordered);
}

function madeStream(random: Random, form: Form): Uint8Array[] {
  const shared = random.chance(0.1);
  const blocks = BLOCKS.map((block, index) =>
    shared ? { ...block, guestAddress: BigInt(index) << 20n } : block,
  );
  const turn = form === 'rdma' ? [hook(), eos()] : [];
  return [
    beginning().bytes(),
    ...(shared ? [capabilities('x-ignore-shared')] : []),
    ...(random.chance(0.1) ? [pageBits(12)] : []),
    startHeader().bytes(),
    blockList(blocks),
    ...(form === 'rdma' ? turn : [eos()]),
    footer(),
    ...[2, 3].flatMap((type) => [
      header(type as 2 | 3),
      ...(form === 'rdma' ? turn : [...pageRecords(random, type), eos()]),
      footer(),
    ]),
    ...deviceState(random),
  ];
}

/** Of every page one record, over both sections. */
function pageRecords(random: Random, section: number): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (const { name, length } of BLOCKS) {
    for (let page = section - 2; page < Number(length) / PAGE; page += 2) {
      const again = records.length > 0 && page > 1;
      const zero = random.chance(0.7);
      const flags = (zero ? 0x02n : 0x08n) | (again ? 0x20n : 0n);
      const content = zero ? Buffer.of(0) : Buffer.alloc(PAGE, 0xa5);
      const builder = new Builder().u64(BigInt(page * PAGE) | flags);
      records.push((again ? builder : builder.counted(name)).raw(content).bytes());
    }
  }
  return records;
}

function deviceState(random: Random): Uint8Array[] {
  const names = ['timer', 'cpu', 'virtio-net'].slice(0, 1 + random.below(3));
  return [
    ...names.map((name, index) => device(40 + index, name, randomBytes(random, random.below(60)))),
    description(names.map((name) => ({ name, instance_id: 0 }))),
  ];
}

/** What stock QEMUs sent to each other. */
function realStreams(): readonly Uint8Array[][] {
  real ??= ['pin-all', 'dynamic', 'running'].map((name) => capturedParts(trace(name)));
  return real;
}
let real: Uint8Array[][] | undefined;

function capturedParts(lines: readonly TraceLine[]): Uint8Array[] {
  const { before, start, deviceState: after } = traceStream(lines);
  const round = (type: 2 | 3) => [header(type), hook(), eos(), footer()];
  // The description alone is long; damage should find the sections too.
  const cut = after.lastIndexOf(Buffer.of(0x7e)) + 5;
  return [
    before,
    start,
    eos(),
    footer(),
    ...round(2),
    ...round(3),
    after.subarray(0, cut),
    after.subarray(cut),
  ];
}

/** A whole VM as `migrate exec:cat>FILE` wrote it, some MiB: for a small share of cases. */
export function realPages(): Buffer {
  realPagesRead ??= gunzipSync(readFileSync(new URL('../fixtures/qemu/plain.stream.gz', import.meta.url)));
  return realPagesRead;
}
let realPagesRead: Buffer | undefined;

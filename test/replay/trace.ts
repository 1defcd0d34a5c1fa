/** A captured migration, line by line: test/fixtures/traces. */
import { readFileSync } from 'node:fs';
import { type Announced, parseBlocks, TYPE, type TypeName } from '../support/raw-control.ts';

export type TraceLine =
  | { readonly op: 'mpa'; readonly dir: 'source' | 'dest'; readonly privateData: Buffer }
  | {
      readonly op: 'send';
      readonly dir: 'source' | 'dest';
      readonly type: TypeName;
      readonly repeat: number;
      readonly padding: number;
      readonly data: Buffer;
    }
  | { readonly op: 'write'; readonly stag: number; readonly to: bigint; readonly length: number };

interface Json {
  readonly op: string;
  readonly dir: 'source' | 'dest';
  readonly private_data: string;
  readonly type: TypeName;
  readonly repeat: number;
  readonly padding: number;
  readonly data: string;
  readonly stag: number;
  readonly first_to: number;
  readonly len: number;
}

export function trace(name: string): readonly TraceLine[] {
  const url = new URL(`../fixtures/traces/${name}.jsonl`, import.meta.url);
  const lines = readFileSync(url, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => typed(JSON.parse(line) as Json));
}

function typed(json: Json): TraceLine {
  const { op, dir, type, repeat, padding, stag } = json;
  switch (op) {
    case 'mpa': // Behind IRD and ORD, which MPA revision 2 has in front.
      return { op, dir, privateData: Buffer.from(json.private_data, 'hex').subarray(4) };
    case 'send':
      if (!(type in TYPE)) throw new Error(`control message ${type}`);
      return { op, dir, type, repeat, padding, data: Buffer.from(json.data, 'hex') };
    case 'write':
      if (!Number.isSafeInteger(json.first_to)) throw new Error(`offset ${json.first_to}`);
      return { op, stag, to: BigInt(json.first_to), length: json.len };
    default:
      throw new Error(`operation ${op}`);
  }
}

/** The control messages of one side, by type. */
export function messages(
  lines: readonly TraceLine[],
  dir: 'source' | 'dest',
  ...types: TypeName[]
): Extract<TraceLine, { op: 'send' }>[] {
  return lines.filter(
    (line): line is Extract<TraceLine, { op: 'send' }> =>
      line.op === 'send' && line.dir === dir && (types.length === 0 || types.includes(line.type)),
  );
}

export function announced(lines: readonly TraceLine[]): Announced[] {
  const [result] = messages(lines, 'dest', 'RAM_BLOCKS_RESULT');
  return result ? parseBlocks(result.data) : [];
}

/** The block that a WRITE's target is in. */
export function blockOf(blocks: readonly Announced[], to: bigint): number {
  return blocks.findIndex(({ address, length }) => to >= address && to < address + length);
}

/** What the stream of a capture consists of. */
export interface TraceStream {
  /** Up to the START of ram. */
  readonly before: Buffer;
  /** START of ram up to and with its HOOK. */
  readonly start: Buffer;
  readonly names: readonly string[];
  /** Behind the END of ram and its footer. */
  readonly deviceState: Buffer;
}

export function traceStream(lines: readonly TraceLine[]): TraceStream {
  const files = messages(lines, 'source', 'QEMU_FILE').map(({ data }) => data);
  const first = files[0] as Buffer;
  const at = 13 + first.readUInt32BE(9); // QEVM, version, CONFIGURATION and its length
  const last = messages(lines, 'source').findLastIndex(({ type }) => type === 'REGISTER_FINISHED');
  const behind = messages(lines, 'source')
    .slice(last + 1)
    .map(({ data }) => data);
  return {
    before: first.subarray(0, at),
    start: first.subarray(at),
    names: blockNames(first.subarray(at)),
    deviceState: Buffer.concat(behind).subarray(8 + 5), // EOS, FOOTER
  };
}

/** `total | MEM_SIZE`, then name and length of each block, then HOOK. */
function blockNames(start: Buffer): string[] {
  const names: string[] = [];
  for (let at = 1 + 4 + 4 + 4 + 4 + 8; at < start.length - 8; ) {
    const length = start.readUInt8(at);
    names.push(start.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length + 8;
  }
  return names;
}

import { readFileSync } from 'node:fs';
import { control } from './builder.ts';

export const TRACES = ['pin-all', 'dynamic', 'running', 'mismatch'] as const;
export type TraceName = (typeof TRACES)[number];

/** QEMU's numbers, apart from the product's table. */
const NUMBERS: Readonly<Record<string, number>> = {
  ERROR: 1,
  READY: 2,
  QEMU_FILE: 3,
  RAM_BLOCKS_REQUEST: 4,
  RAM_BLOCKS_RESULT: 5,
  COMPRESS: 6,
  REGISTER_REQUEST: 7,
  REGISTER_RESULT: 8,
  REGISTER_FINISHED: 9,
  UNREGISTER_REQUEST: 10,
  UNREGISTER_FINISHED: 11,
};

export interface Send {
  readonly from: 'source' | 'dest';
  readonly type: string;
  readonly data: Uint8Array;
  /** The whole message as it was on the wire. */
  readonly bytes: Uint8Array;
}

interface Line {
  readonly dir: 'source' | 'dest';
  readonly op: string;
  readonly type: string;
  readonly len: number;
  readonly repeat: number;
  readonly padding: number;
  readonly data: string;
  readonly private_data: string;
}

function lines(name: TraceName): Line[] {
  const url = new URL(`../fixtures/traces/${name}.jsonl`, import.meta.url);
  return readFileSync(url, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

/** Every control message of a capture, in wire order. */
export function sends(name: TraceName): Send[] {
  return lines(name)
    .filter(({ op }) => op === 'send')
    .map(({ dir, type, len, repeat, padding, data }) => {
      const bytes = Buffer.from(data, 'hex');
      if (bytes.length !== len) throw new Error(`${name}: ${type} of ${bytes.length} bytes says ${len}`);
      return { from: dir, type, data: bytes, bytes: control(NUMBERS[type] ?? -1, repeat, bytes, padding) };
    });
}

/** Private data of the connection set-up, request and reply, after the IRD and ORD of MPA revision 2. */
export function privateData(name: TraceName): { request: Uint8Array; reply: Uint8Array } {
  const [request, reply] = lines(name)
    .filter(({ op }) => op === 'mpa')
    .map(({ private_data }) => new Uint8Array(Buffer.from(private_data, 'hex').subarray(4)));
  if (!request || !reply) throw new Error(`${name}: no connection set-up`);
  return { request, reply };
}

/** The payloads of the QEMU_FILE messages. */
export function qemuFiles(name: TraceName): Uint8Array[] {
  return sends(name)
    .filter(({ type }) => type === 'QEMU_FILE')
    .map(({ data }) => data);
}

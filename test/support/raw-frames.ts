/**
 * Bytes of MPA, DDP and RDMAP by the RFCs (5044, 5041, 5040, 6581), for peers played by tests. Independent of the product: it
 * imports nothing of it, so that a mistake in both is unlikely to be the same.
 */
import { crc32c } from './raw-crc32c.ts';

const REQUEST_KEY = 'MPA ID Req Frame';
const REPLY_KEY = 'MPA ID Rep Frame';
export const MPA_HEADER_BYTES = 20;

export const MPA_FLAG = { markers: 0x80, crc: 0x40, reject: 0x20, enhanced: 0x10 } as const;
export const OPCODE = { write: 0, readRequest: 1, readResponse: 2, send: 3, terminate: 7 } as const;
export const QUEUE = { send: 0, readRequest: 1, terminate: 2 } as const;

export interface MpaFrame {
  readonly kind: 'request' | 'reply';
  readonly flags: number;
  readonly revision: number;
  /** Without IRD and ORD. */
  readonly privateData: Buffer;
}

/** With IRD 0 and ORD 2 in front for revision 2, as the Linux driver siw sends them. */
export function mpaFrame(frame: MpaFrame): Buffer {
  const depths = frame.flags & MPA_FLAG.enhanced ? Buffer.from('00000002', 'hex') : Buffer.alloc(0);
  const data = Buffer.concat([depths, frame.privateData]);
  const header = Buffer.alloc(MPA_HEADER_BYTES);
  header.write(frame.kind === 'request' ? REQUEST_KEY : REPLY_KEY, 'latin1');
  header.writeUInt8(frame.flags, 16);
  header.writeUInt8(frame.revision, 17);
  header.writeUInt16BE(data.length, 18);
  return Buffer.concat([header, data]);
}

/** The frame at the beginning of the bytes and its length, or `undefined` while it is incomplete. */
export function parseMpa(
  bytes: Buffer,
  kind: MpaFrame['kind'],
): { frame: MpaFrame; size: number } | undefined {
  if (bytes.length < MPA_HEADER_BYTES) return undefined;
  const key = bytes.toString('latin1', 0, 16);
  if (key !== (kind === 'request' ? REQUEST_KEY : REPLY_KEY))
    throw new Error(`MPA key '${key}' in a ${kind}`);
  const [flags, revision] = [bytes.readUInt8(16), bytes.readUInt8(17)];
  const size = MPA_HEADER_BYTES + bytes.readUInt16BE(18);
  if (bytes.length < size) return undefined;
  const start = MPA_HEADER_BYTES + (flags & MPA_FLAG.enhanced ? 4 : 0);
  return { frame: { kind, flags, revision, privateData: Buffer.from(bytes.subarray(start, size)) }, size };
}

export interface Untagged {
  readonly opcode: number;
  readonly queue: number;
  readonly msn: number;
  readonly offset?: number;
  readonly last?: boolean;
}

export function untaggedSegment(header: Untagged, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeUInt8((header.last ?? true) ? 0x41 : 0x01, 0);
  bytes.writeUInt8(0x40 | header.opcode, 1);
  bytes.writeUInt32BE(header.queue, 6);
  bytes.writeUInt32BE(header.msn, 10);
  bytes.writeUInt32BE(header.offset ?? 0, 14);
  return Buffer.concat([bytes, payload]);
}

export function taggedSegment(stag: number, to: bigint, payload: Uint8Array, last: boolean): Buffer {
  const bytes = Buffer.alloc(14);
  bytes.writeUInt8(last ? 0xc1 : 0x81, 0);
  bytes.writeUInt8(0x40 | OPCODE.write, 1);
  bytes.writeUInt32BE(stag, 2);
  bytes.writeBigUInt64BE(to, 6);
  return Buffer.concat([bytes, payload]);
}

/** One FPDU: length, ULPDU, pad, CRC. Without CRC the field is 0. */
export function fpdu(ulpdu: Uint8Array, withCrc: boolean): Buffer {
  const padded = (2 + ulpdu.length + 3) & ~3;
  const bytes = Buffer.alloc(padded + 4);
  bytes.writeUInt16BE(ulpdu.length, 0);
  bytes.set(ulpdu, 2);
  if (withCrc) bytes.writeUInt32LE(crc32c(bytes.subarray(0, padded)), padded);
  return bytes;
}

/** The ULPDU of the FPDU at the beginning of the bytes and the FPDU's length; `undefined` while it is incomplete. */
export function parseFpdu(bytes: Buffer, withCrc: boolean): { ulpdu: Buffer; size: number } | undefined {
  if (bytes.length < 2) return undefined;
  const end = 2 + bytes.readUInt16BE(0);
  const padded = (end + 3) & ~3;
  if (bytes.length < padded + 4) return undefined;
  if (bytes.subarray(end, padded).some((byte) => byte !== 0)) throw new Error('pad bytes that are not zero');
  const expected = withCrc ? crc32c(bytes.subarray(0, padded)) : 0;
  const crc = bytes.readUInt32LE(padded);
  if (crc !== expected)
    throw new Error(`CRC field 0x${crc.toString(16)}, expected 0x${expected.toString(16)}`);
  return { ulpdu: bytes.subarray(2, end), size: padded + 4 };
}

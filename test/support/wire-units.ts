/**
 * One direction of a connection of the software RNIC in the pieces that it is made of, found again from its bytes by the RFCs: an MPA setup
 * frame, FPDUs in the clear, and TLS 1.3 records. Somebody in between can tell as much without a key.
 */
import { crc32c } from './raw-crc32c.ts';
import { MPA_HEADER_BYTES } from './raw-frames.ts';

export interface Unit {
  readonly kind: 'mpa' | 'fpdu' | 'record';
  /** Of its first byte in the direction. */
  readonly start: number;
  readonly bytes: Buffer;
}

/** Parts of a conversation: the clear setup, the TLS handshake in FPDUs, records with messages, with RAM, and the last one. */
export const PARTS = ['setup', 'handshake', 'messages', 'ram', 'end'] as const;
export type Part = (typeof PARTS)[number];

/** Enough for every kind to show. */
const HEAD_BYTES = 5;
const RECORD_HEAD_BYTES = 5;
/** No FPDU begins so: its third byte is a DDP control byte. */
const RECORD_HEAD = Buffer.from('170303', 'hex');
const CRC_BYTES = 4;
/** close_notify: head, alert, type, tag. A message is longer. */
export const END_RECORD_BYTES = 24;
/** Messages of a small VM are shorter, pieces of RAM longer. */
const LARGE_RECORD_BYTES = 4096;

export function partOf({ kind, bytes }: Unit): Part {
  if (kind === 'mpa') return 'setup';
  if (kind === 'fpdu') return 'handshake';
  if (bytes.length === END_RECORD_BYTES) return 'end';
  return bytes.length < LARGE_RECORD_BYTES ? 'messages' : 'ram';
}

/** Takes bytes in any pieces and gives whole units. */
export class UnitReader {
  /** The beginning of a unit that is not whole. */
  rest: Buffer = Buffer.alloc(0);
  #start = 0;

  push(bytes: Uint8Array): Unit[] {
    this.rest = Buffer.concat([this.rest, bytes]);
    const units: Unit[] = [];
    for (let unit = this.#next(); unit; unit = this.#next()) {
      units.push(unit);
      this.#start += unit.bytes.length;
      this.rest = this.rest.subarray(unit.bytes.length);
    }
    return units;
  }

  #next(): Unit | undefined {
    const { rest } = this;
    if (rest.length < (this.#start === 0 ? MPA_HEADER_BYTES : HEAD_BYTES)) return undefined;
    const [kind, size] = this.#measure();
    return rest.length < size ? undefined : { kind, start: this.#start, bytes: rest.subarray(0, size) };
  }

  #measure(): [Unit['kind'], number] {
    const { rest } = this;
    if (this.#start === 0) return ['mpa', MPA_HEADER_BYTES + rest.readUInt16BE(MPA_HEADER_BYTES - 2)];
    if (rest.subarray(0, RECORD_HEAD.length).equals(RECORD_HEAD))
      return ['record', RECORD_HEAD_BYTES + rest.readUInt16BE(RECORD_HEAD.length)];
    return ['fpdu', ((2 + rest.readUInt16BE(0) + 3) & ~3) + CRC_BYTES];
  }
}

export function unitsOf(bytes: Uint8Array): { units: Unit[]; rest: Buffer } {
  const reader = new UnitReader();
  return { units: reader.push(bytes), rest: reader.rest };
}

/** What somebody does who has changed an FPDU and wants it to be taken. A CRC that is not in use stays so. */
export function repairCrc(fpdu: Buffer): Buffer {
  const at = fpdu.length - CRC_BYTES;
  if (fpdu.readUInt32LE(at) !== 0) fpdu.writeUInt32LE(crc32c(fpdu.subarray(0, at)), at);
  return fpdu;
}

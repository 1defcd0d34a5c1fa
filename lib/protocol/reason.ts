/**
 * Why a peer of ours failed: the data of its ERROR, if both ends have agreed on that (flag REASON of capabilities.ts). Version 1 peers
 * send an ERROR without data, and get one.
 *
 *     code length u8, code | phase length u8, phase | message, UTF-8, the rest: at most 1024 bytes
 *
 * A peer's words are not trusted: only codes and phases that are known here are accepted, and of the message only what a terminal and
 * a log can show without being controlled by it.
 */
import { ERROR_CODES, type ErrorCode, type MigrationError, PHASES, type Phase } from '../errors.ts';

const MESSAGE_MAX_BYTES = 1024;
const REASON_MAX_BYTES = 2 + 2 * 0xff + MESSAGE_MAX_BYTES;
/** Control and format characters (including all that change the direction of text), unassigned ones, and line separators. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]+/gu;

export interface PeerReason {
  /** Absent: one that this release does not know. */
  readonly code?: ErrorCode;
  readonly phase?: Phase;
  /** On one line; may be empty. */
  readonly message: string;
}

export function encodeReason({ code, phase, message }: MigrationError): Uint8Array {
  return Buffer.concat([short(code), short(phase), cut(printable(message))]);
}

/** undefined: there is none, or it cannot be read. */
export function decodeReason(data: Uint8Array): PeerReason | undefined {
  if (data.length > REASON_MAX_BYTES) return undefined;
  const code = takeShort(data, 0);
  const phase = code && takeShort(data, code.end);
  if (!phase) return undefined;
  const message = printable(Buffer.from(data.subarray(phase.end)).toString('utf8'));
  const known = { code: oneOf(ERROR_CODES, code.text), phase: oneOf(PHASES, phase.text) };
  return {
    ...(known.code && { code: known.code }),
    ...(known.phase && { phase: known.phase }),
    message,
  };
}

function printable(text: string): string {
  return text.replace(UNPRINTABLE, ' ').trim();
}

/** Never in the middle of a character. */
function cut(text: string): Uint8Array {
  const bytes = new Uint8Array(MESSAGE_MAX_BYTES);
  return bytes.subarray(0, new TextEncoder().encodeInto(text, bytes).written);
}

function short(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function takeShort(data: Uint8Array, at: number): { text: string; end: number } | undefined {
  const length = data[at];
  if (length === undefined) return undefined;
  const end = at + 1 + length;
  if (end > data.length) return undefined;
  return { text: Buffer.from(data.subarray(at + 1, end)).toString('latin1'), end };
}

function oneOf<T extends string>(known: readonly T[], text: string): T | undefined {
  return known.find((value) => value === text);
}

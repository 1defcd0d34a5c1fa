/** Numbers that go into a typed array, which would cut off what does not fit. */
import { IN_CODE, invalid } from '../options/check.ts';

const U32_MAX = 2 ** 32 - 1;
const U64_MAX = (1n << 64n) - 1n;

/** @throws MigrationError INVALID_ARGUMENT */
export function u32(value: number, name: string): number {
  if (typeof value === 'number' && value >>> 0 === value) return value;
  throw wrong(`an integer from 0 to ${U32_MAX}`, name, value);
}

/** @throws MigrationError INVALID_ARGUMENT */
export function u64(value: bigint, name: string): bigint {
  if (typeof value === 'bigint' && value >= 0n && value <= U64_MAX) return value;
  throw wrong('a bigint from 0 to 2^64 - 1', name, value);
}

/** @throws MigrationError INVALID_ARGUMENT */
export function integer(value: number, least: number, most: number, name: string): number {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw wrong(`an integer from ${least} to ${most}`, name, value);
}

/** @throws MigrationError INVALID_ARGUMENT */
export function identifier(value: bigint | number, name: string): bigint {
  return typeof value === 'number'
    ? BigInt(integer(value, 0, Number.MAX_SAFE_INTEGER, name))
    : u64(value, name);
}

export function wrong(expected: string, name: string, received: unknown): Error {
  return invalid(`expected ${expected} for ${name} but received ${IN_CODE.received(received)}`);
}

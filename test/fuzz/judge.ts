/** What may come of hostile input: it is taken, or refused with an error of ours that the input can cause. */
import { isDeepStrictEqual } from 'node:util';
import { type ErrorCode, MigrationError } from '../../lib/errors.ts';
import type { Hit } from './target.ts';

/** The product broke its word. */
export class Finding extends Error {
  override readonly name = 'Finding';
}

/** Counts the code of an error that `allowed` has; any other error is thrown again. */
export function refused(error: unknown, allowed: readonly ErrorCode[], hit: Hit): void {
  if (!(error instanceof MigrationError)) throw error;
  if (!allowed.includes(error.code))
    throw new Finding(`${error.code}, which this input must not cause: ${error.message}`, { cause: error });
  if (error.message.length > 2000) throw new Finding(`a message of ${error.message.length} characters`);
  hit(error.code);
}

/** What `body` gave; undefined: it refused the input, with an allowed code. */
export function tried<T>(allowed: readonly ErrorCode[], hit: Hit, body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    refused(error, allowed, hit);
    return undefined;
  }
}

export async function triedLater<T>(
  allowed: readonly ErrorCode[],
  hit: Hit,
  body: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    refused(error, allowed, hit);
    return undefined;
  }
}

export function same(what: string, actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected))
    throw new Finding(`${what}: ${shown(actual)} where ${shown(expected)} was due`);
}

export function shown(value: unknown): string {
  const text = JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'bigint'
      ? `${inner}n`
      : inner instanceof Uint8Array
        ? Buffer.from(inner).toString('hex')
        : inner,
  );
  return text === undefined || text.length < 600 ? String(text) : `${text.slice(0, 600)}...`;
}

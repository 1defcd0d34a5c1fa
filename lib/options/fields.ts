/** What an option may be: a test, and words for it that complete "expected ...". */
import { z } from 'zod';

/** A schema for every member of T: forgetting one does not compile. */
export type ShapeOf<T> = { readonly [K in keyof Required<T>]: z.ZodType };

/** The longest that a Node timer can wait, milliseconds. */
export const MOST_MS = 2 ** 31 - 1;
const U64_MAX = (1n << 64n) - 1n;

export function field(expected: string, test: (value: unknown) => boolean): z.ZodType {
  return z.custom(test, { error: expected });
}

export const boolean = field('true or false', (value) => typeof value === 'boolean');

export const oneOf = (...values: readonly string[]): z.ZodType =>
  field(`${values.slice(0, -1).join(', ')} or ${values.at(-1)}`, (value) => values.includes(value as string));

export const integer = (least: number, most: number, unit = ''): z.ZodType =>
  field(
    `an integer from ${least} to ${most}${unit && ` ${unit}`}`,
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  );

export const milliseconds = integer(1, MOST_MS, 'milliseconds');
export const percent = (most: number): z.ZodType => integer(1, most, 'percent');

export const bytes = (least: bigint, unit = 'bytes'): z.ZodType =>
  field(
    `${least === 0n ? '' : `at least ${least} `}${unit} as bigint`,
    (value) => typeof value === 'bigint' && value >= least && value <= U64_MAX,
  );

export const text = field('a string that is not empty', (value) => typeof value === 'string' && value !== '');
export const paths = field('an object of paths by the names of RAM blocks', isPaths);
export const fn = field('a function', (value) => typeof value === 'function');
export const signal = field('an AbortSignal', (value) => value instanceof AbortSignal);
export const byteArray = field('a Uint8Array', (value) => value instanceof Uint8Array);

/** An object with these members and no others; all are optional. */
export const optionsOf = (shape: Readonly<Record<string, z.ZodType>>): z.ZodType =>
  z.strictObject(
    Object.fromEntries(Object.entries(shape).map(([name, schema]) => [name, schema.optional()])),
    { error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'an object of options') },
  );

/** An object with these members, and others that are not checked. */
export const objectWith = (shape: Readonly<Record<string, z.ZodType>>): z.ZodType =>
  z.object(shape, { error: 'an object' });

export const listOf = (schema: z.ZodType): z.ZodType => z.array(schema, { error: 'an array' });

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPaths(value: unknown): boolean {
  return (
    isRecord(value) && Object.values(value as object).every((path) => typeof path === 'string' && path !== '')
  );
}

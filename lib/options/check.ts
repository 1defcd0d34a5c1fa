/**
 * How everything that an embedder or operator gives is checked: all of it at once, before anything is opened, and in the giver's own
 * words.
 */
import type { z } from 'zod';
import { MigrationError } from '../errors.ts';

/** What an option is called where it was given, and how its value is shown. */
export interface Wording {
  readonly name: (option: string) => string;
  readonly expected: (text: string) => string;
  readonly received: (value: unknown) => string;
}

/** For embedders: names and types are JavaScript's. */
export const IN_CODE: Wording = {
  name: (option) => option,
  expected: (text) => text,
  received: (value) => {
    const type = typeOf(value);
    return type === 'null' || type === 'undefined' ? type : `${shown(value)} of type ${type}`;
  },
};

/** A rule over several options: what is wrong, or undefined. Checked only when each option is valid by itself. */
export type Rule<T> = (value: T, name: Wording['name']) => string | undefined;

export interface Checked<T> {
  readonly schema: z.ZodType;
  readonly rules?: readonly Rule<T>[];
  /** Precedes the name of every member, such as `vm`. */
  readonly prefix?: string;
}

/** @throws MigrationError INVALID_ARGUMENT that names every option that is wrong */
export function check<T>({ schema, rules = [], prefix }: Checked<T>, value: T, wording = IN_CODE): void {
  const result = schema.safeParse(value);
  const wrong = result.success
    ? rules.map((rule) => rule(value, wording.name)).filter((problem) => problem !== undefined)
    : result.error.issues.flatMap((issue) => problemsOf(issue, value, { schema, prefix, wording }));
  if (wrong.length > 0) throw invalid(wrong.join('; '));
}

export function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

interface Place {
  readonly schema: z.ZodType;
  readonly prefix: string | undefined;
  readonly wording: Wording;
}

function problemsOf(issue: z.core.$ZodIssue, value: unknown, place: Place): string[] {
  const { wording, prefix } = place;
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownOption(key, issue.path, place));
  const name = wording.name(nameOf(issue.path, prefix));
  const received = wording.received(valueAt(value, issue.path));
  return [`expected ${wording.expected(issue.message)} for ${name} but received ${received}`];
}

/** `layout.blocks[0].length`. */
function nameOf(path: readonly PropertyKey[], prefix: string | undefined): string {
  const start = prefix ?? (path.length === 0 ? 'options' : '');
  return path.reduce<string>((name, part) => {
    if (typeof part === 'number') return `${name}[${part}]`;
    return name === '' ? String(part) : `${name}.${String(part)}`;
  }, start);
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, part) => (at as Record<PropertyKey, unknown>)[part], value);
}

function unknownOption(key: string, path: readonly PropertyKey[], place: Place): string {
  const known = keysAt(place.schema, path);
  const near = nearest(key, known);
  const name = nameOf([...path, key], place.prefix);
  const hint =
    near === undefined
      ? `known are ${known.join(', ')}`
      : `did you mean ${nameOf([...path, near], place.prefix)}?`;
  return `unknown option ${name}: ${hint}`;
}

function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  const at = path.reduce<unknown>((inner, part) => shapeOf(inner)[part as string], schema);
  return Object.keys(shapeOf(at));
}

/** The shape of an object's schema, even an optional one. */
function shapeOf(schema: unknown): Record<string, unknown> {
  const { def } = schema as { def: { innerType?: unknown; shape?: Record<string, unknown> } };
  return def.innerType === undefined ? (def.shape ?? {}) : shapeOf(def.innerType);
}

/** The known key that a typo was probably meant for. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const close = known
    .map((name) => ({ name, distance: distance(key.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, distance }) => distance <= Math.max(1, Math.floor(name.length / 3)));
  return close.sort((a, b) => a.distance - b.distance)[0]?.name;
}

/** Levenshtein's distance. */
function distance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const changed = (row[j - 1] as number) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[right.length] as number;
}

const SHOWN_CHARACTERS = 60;

function shown(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function ${value.name}`;
  if (typeof value === 'object') return Array.isArray(value) ? `${value.length} elements` : 'an object';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text;
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

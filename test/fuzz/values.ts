/** Damage to JavaScript values: what a hostile file says in good JSON, and what a caller without types passes. */
import type { Random } from '../campaign/random.ts';
import { mutateText } from './mutate.ts';

export type Tree = { [name: string]: unknown } | unknown[];

const JSON_LEAVES: readonly unknown[] = [null, true, false, 0, -1, 1.5, 1e308, 2 ** 53, '', 'x', '__proto__'];
const MORE: readonly unknown[] = ['0', '-1', '18446744073709551616', '../x', '/etc/passwd', [], {}, [[]]];
/** What JSON does not have. */
const OTHER: readonly unknown[] = [
  undefined,
  Number.NaN,
  1n,
  -1n,
  2n ** 64n,
  () => 1,
  Symbol('s'),
  new Map(),
];

/** Messages name what is wrong. */
const MOST_TEXT = 300;
const JSON_ONLY = [...JSON_LEAVES, ...MORE];
const ANY = [...JSON_ONLY, ...OTHER];

/** A deep copy in which one to three places are other than they were. */
export function mutateTree<T extends Tree>(random: Random, tree: T, beyondJson = false): unknown {
  const copy = copyOf(tree);
  for (let times = random.chance(0.7) ? 1 : 2 + random.below(2); times > 0; times--)
    damage(random, copy, beyondJson);
  return copy;
}

function copyOf<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copyOf) as T;
  if (!isPlain(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, copyOf(inner)])) as T;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function damage(random: Random, tree: unknown, beyondJson: boolean): void {
  const parents = [...containers(tree)];
  const parent = random.pick(parents) as Record<string, unknown>;
  const names = Object.keys(parent);
  if (names.length === 0 || random.chance(0.15)) {
    add(random, parent, beyondJson);
    return;
  }
  const name = random.pick(names);
  if (!random.chance(0.2)) parent[name] = other(random, parent[name], beyondJson);
  else if (Array.isArray(parent)) parent.splice(Number(name), 1);
  else delete parent[name];
}

function* containers(tree: unknown): Generator<unknown> {
  if (!Array.isArray(tree) && !isPlain(tree)) return;
  yield tree;
  for (const inner of Object.values(tree)) yield* containers(inner);
}

function add(random: Random, parent: Record<string, unknown> | unknown[], beyondJson: boolean): void {
  const value = other(random, Object.values(parent)[0], beyondJson);
  if (Array.isArray(parent)) {
    parent.push(value);
    return;
  }
  const name = random.pick([
    'extra',
    'toString',
    'constructor',
    mutateText(random, 'name').slice(0, MOST_TEXT),
  ]);
  // As JSON.parse does it: __proto__ is a member like any other.
  Object.defineProperty(parent, name, { value, writable: true, enumerable: true, configurable: true });
}

function other(random: Random, value: unknown, beyondJson: boolean): unknown {
  if (random.chance(0.3) && typeof value === 'string') return mutateText(random, value).slice(0, MOST_TEXT);
  if (random.chance(0.3) && typeof value === 'number') return value + random.pick([-1, 1, 0.5, 2 ** 32]);
  if (random.chance(0.3) && typeof value === 'bigint')
    return value + random.pick([-1n, 1n, -value, 2n ** 63n]);
  if (random.chance(0.2) && Array.isArray(value)) return [...value, ...value];
  return copyOf(random.pick(beyondJson ? ANY : JSON_ONLY));
}

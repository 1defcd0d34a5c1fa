/** Reads the samples of `perf script -F pid,comm,tid,ip,sym` as stacks. Pure. */

/** What was found at one place, with everything that it called. */
export interface Frame {
  readonly name: string;
  /** Samples here and in what it called. */
  readonly samples: number;
  readonly callees: readonly Frame[];
}

interface Node {
  samples: number;
  readonly callees: Map<string, Node>;
}

const SAMPLE = /^\S.*?\s+(\d+)\/(\d+)\s*$/;
const FRAME = /^\s+[0-9a-f]+ (.+?)\s*$/;
/** Where the tree does not say anything any more. */
const MOST_FRAMES = 64;

const empty = (): Node => ({ samples: 0, callees: new Map() });

/**
 * All samples as one tree. `nameOf`: what stands at the bottom of a process's stacks.
 * @throws Error there is no sample in it
 */
export function treeOf(script: string, nameOf: (pid: number) => string): Frame {
  const root = empty();
  for (const sample of script.split(/\n\n+/)) addSample(root, sample, nameOf);
  if (root.samples === 0) throw new Error('perf has taken no sample');
  return frame('all', root);
}

function addSample(root: Node, text: string, nameOf: (pid: number) => string): void {
  const [head = '', ...lines] = text.split('\n').filter((line) => line.trim() !== '');
  const pid = SAMPLE.exec(head)?.[1];
  if (pid === undefined) return;
  // perf has the innermost frame first.
  const frames = lines.flatMap((line) => FRAME.exec(line)?.[1] ?? []).map(shortName);
  const stack = [nameOf(Number(pid)), ...withoutUnknown(frames.reverse())].slice(0, MOST_FRAMES);
  root.samples += 1;
  let at = root;
  for (const name of stack) {
    const next = at.callees.get(name) ?? empty();
    at.callees.set(name, next);
    next.samples += 1;
    at = next;
  }
}

/** A run of places without a name is one. */
const withoutUnknown = (names: readonly string[]): string[] =>
  names.filter((name, at) => name !== '[unknown]' || names[at - 1] !== '[unknown]');

/** Without offsets, template arguments and parameters, which nobody reads in a box. */
export function shortName(symbol: string): string {
  const bare = symbol.replace(/\+0x[0-9a-f]+$/, '').replace(/ \(\S+\)$/, '');
  if (!bare.includes('::')) return bare;
  let [depth, short] = [0, ''];
  for (const character of bare
    .replaceAll('(anonymous namespace)', '{}')
    .replace('operator()', 'operator{}')) {
    if ('<('.includes(character)) depth += 1;
    if (depth === 0) short += character;
    if ('>)'.includes(character)) depth -= 1;
  }
  return short
    .replaceAll('{}::', '')
    .replace('operator{}', 'operator()')
    .replace(/ const$/, '')
    .trim();
}

function frame(name: string, { samples, callees }: Node): Frame {
  const children = [...callees].map(([child, node]) => frame(child, node));
  return { name, samples, callees: children.sort((one, other) => other.samples - one.samples) };
}

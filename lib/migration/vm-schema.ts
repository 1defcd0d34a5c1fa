/** What an embedder gives of its VM, or to put one into, as it is checked before anything is opened. */

import { check, invalid, type Rule } from '../options/check.ts';
import {
  boolean,
  byteArray,
  field,
  fn,
  integer,
  listOf,
  objectWith,
  type ShapeOf,
  text,
} from '../options/fields.ts';
import { DESCRIPTION_MAX_BYTES } from '../protocol/messages.ts';
import { parseConfiguration } from '../protocol/stream-configuration.ts';
import type {
  DestinationTarget,
  Guest,
  RamBlock,
  RamBlockLayout,
  RamSection,
  SourceVm,
  VmLayout,
} from '../ram/vm.ts';

/** The stream gives a name's length one byte. */
const NAME_MAX_BYTES = 255;
const U32_MAX = 2 ** 32 - 1;

const name = field(
  `a name of 1 to ${NAME_MAX_BYTES} bytes`,
  (value) => typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= NAME_MAX_BYTES,
);
const length = field('bytes, more than 0, as bigint', (value) => typeof value === 'bigint' && value > 0n);
const address = field('an address as bigint', (value) => typeof value === 'bigint' && value >= 0n);
const powerOfTwo = field('a power of two from 1024 to 65536 (bytes)', isPageSize);
const mapping = field('memory of mapMemfd, mapFile or mapCaller', isMapping);

const BLOCK_LAYOUT = { name, length, guestAddress: address.optional() } satisfies ShapeOf<RamBlockLayout>;
const BLOCK = { ...BLOCK_LAYOUT, mapping } satisfies ShapeOf<RamBlock>;
const SECTION = {
  sectionId: integer(0, U32_MAX),
  instanceId: integer(0, U32_MAX),
} satisfies ShapeOf<RamSection>;

const LAYOUT = {
  machine: text,
  pageSize: powerOfTwo,
  blocks: listOf(objectWith(BLOCK_LAYOUT)),
} satisfies ShapeOf<VmLayout>;

const GUEST = {
  tracker: objectWith({ start: fn, collect: fn, stop: fn }),
  settling: listOf(name).optional(),
  switchoverMs: field(
    'milliseconds, 0 or more',
    (value) => typeof value === 'number' && value >= 0 && Number.isFinite(value),
  ).optional(),
  pause: fn,
  resume: fn,
  throttle: fn.optional(),
} satisfies ShapeOf<Guest>;

const VM = {
  guest: objectWith(GUEST).optional(),
  layout: objectWith(LAYOUT),
  blocks: listOf(objectWith(BLOCK)),
  ramSection: objectWith(SECTION),
  description: field(
    `1 to ${DESCRIPTION_MAX_BYTES} bytes`,
    (value) => value instanceof Uint8Array && value.length > 0 && value.length <= DESCRIPTION_MAX_BYTES,
  ).optional(),
  before: byteArray,
  after: fn,
  beforeCommit: fn.optional(),
} satisfies ShapeOf<SourceVm>;

const TARGET = {
  ramIsFresh: boolean.optional(),
  canContinue: boolean.optional(),
  allocate: fn,
  describe: fn.optional(),
  append: fn,
  commit: fn,
  abort: fn,
} satisfies ShapeOf<DestinationTarget>;

const sameBlocks: Rule<SourceVm> = ({ layout, blocks }) =>
  difference(layout.blocks, blocks, ['vm.layout.blocks', 'vm.blocks']);

const namedOnce: Rule<SourceVm> = ({ blocks }) => {
  const names = blocks.map((block) => block.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  return twice === undefined ? undefined : `vm.blocks has two blocks with the name '${twice}'`;
};

const wholePages: Rule<SourceVm> = ({ layout, blocks }) =>
  blocks.map((block, index) => badPages(block, layout.pageSize, `vm.blocks[${index}]`)).find(Boolean);

const knownSettling: Rule<SourceVm> = ({ guest, blocks }) => {
  const unknown = guest?.settling?.find((name) => !blocks.some((block) => block.name === name));
  return unknown === undefined
    ? undefined
    : `vm.guest.settling names '${unknown}', which is none of vm.blocks`;
};

/** The stream says itself which machine it is of; the destination believes that. */
const sameMachine: Rule<SourceVm> = ({ before, layout }) => {
  const said = configurationOf(before);
  if (said === undefined || (said.machine === layout.machine && said.pageSize === layout.pageSize))
    return undefined;
  return (
    `vm.before is the stream of a ${said.machine} with pages of ${said.pageSize} bytes, and vm.layout says ${layout.machine} with ` +
    `${layout.pageSize}`
  );
};

const SOURCE_VM = {
  schema: objectWith(VM),
  rules: [sameBlocks, namedOnce, wholePages, knownSettling, sameMachine],
  prefix: 'vm',
};
const DESTINATION_TARGET = { schema: objectWith(TARGET), prefix: 'target' };
const ALLOCATED = { schema: listOf(objectWith(BLOCK)), prefix: 'what target.allocate gave' };

/** @throws MigrationError INVALID_ARGUMENT, as all here */
export const checkSourceVm = (vm: SourceVm): void => check(SOURCE_VM, vm);

export const checkTarget = (target: DestinationTarget): void => check(DESTINATION_TARGET, target);

/** The blocks, when they are those of the layout. */
export function checkAllocated({ blocks: wanted }: VmLayout, blocks: readonly RamBlock[]): typeof blocks {
  check(ALLOCATED, blocks);
  const wrong =
    difference(wanted, blocks, ['the VM', ALLOCATED.prefix]) ??
    blocks.map((block, index) => tooShort(block, `${ALLOCATED.prefix}[${index}]`)).find(Boolean);
  if (wrong !== undefined) throw invalid(wrong);
  return blocks;
}

function difference(
  wanted: readonly RamBlockLayout[],
  blocks: readonly RamBlockLayout[],
  [ours, theirs]: readonly [string, string],
): string | undefined {
  if (wanted.length !== blocks.length)
    return `${ours} has ${wanted.length} blocks and ${theirs} ${blocks.length}: expected the same, in the same order`;
  const at = wanted.findIndex(
    ({ name, length }, index) => blocks[index]?.name !== name || blocks[index]?.length !== length,
  );
  if (at < 0) return undefined;
  const shown = (list: typeof blocks): string => `'${list[at]?.name}' of ${list[at]?.length} bytes`;
  return `block ${at} is ${shown(wanted)} in ${ours} and ${shown(blocks)} in ${theirs}: expected the same, in the same order`;
}

/** A bit stands for a page of the mapping: what is no whole page would not be sent. */
function badPages(block: RamBlock, pageSize: number, where: string): string | undefined {
  const short = tooShort(block, where);
  if (short !== undefined) return short;
  const { length, mapping } = block;
  const page = Math.max(pageSize, mapping.pageSize);
  return length % BigInt(page) === 0n
    ? undefined
    : `${where}.length is ${length} bytes, which are no whole pages of ${page} bytes`;
}

const tooShort = ({ length, mapping }: RamBlock, where: string): string | undefined =>
  length > mapping.length
    ? `${where}.length is ${length} bytes, and its mapping has only ${mapping.length}`
    : undefined;

function configurationOf(before: Uint8Array): { machine: string; pageSize: number } | undefined {
  try {
    return parseConfiguration(before);
  } catch {
    return undefined; // a QEMU may understand more than we do
  }
}

function isPageSize(value: unknown): boolean {
  return typeof value === 'number' && value >= 1024 && value <= 65536 && Number.isInteger(Math.log2(value));
}

function isMapping(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { address, length, pageSize } = value as Record<string, unknown>;
  return typeof address === 'bigint' && typeof length === 'bigint' && Number.isInteger(pageSize);
}

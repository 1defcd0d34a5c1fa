/** Options and VMs as callers without types pass them. */
import { checkImageOptions } from '../../../lib/image/option-schema.ts';
import {
  checkDestinationOptions,
  checkLiveOptions,
  checkRunOptions,
  checkSourceOptions,
} from '../../../lib/migration/option-schema.ts';
import { checkAllocated, checkSourceVm, checkTarget } from '../../../lib/migration/vm-schema.ts';
import { tried } from '../judge.ts';
import type { Target } from '../target.ts';
import { mutateTree, type Tree } from '../values.ts';

const live = {
  downtimeLimitMs: 300,
  timeLimitMs: 1000,
  onTimeLimit: 'cancel',
  autoConverge: true,
  maxCpuThrottle: 99,
};
const common = {
  provider: 'auto',
  crc: true,
  connectTimeoutMs: 1000,
  commit: 'auto',
  channels: 2,
  pinBudget: 1n << 30n,
};
const mapping = { address: 4096n, length: 8192n, pageSize: 4096 };
const blocks = [
  { name: 'ram', length: 8192n, mapping },
  { name: 'rom', length: 4096n, guestAddress: 0n, mapping },
];
const fn = (): void => {};
const guest = { tracker: { start: fn, collect: fn, stop: fn }, settling: ['rom'], pause: fn, resume: fn };
const layout = { machine: 'pc', pageSize: 4096, blocks };
const vm = {
  guest,
  layout,
  blocks,
  ramSection: { sectionId: 2, instanceId: 0 },
  before: new Uint8Array(9),
  after: fn,
};

/** A value that is right, and what looks at it. */
const CHECKS: readonly (readonly [string, Tree, (value: never) => unknown])[] = [
  ['source', { ...common, verify: true, maxBandwidth: 1n, live }, checkSourceOptions],
  ['destination', { ...common, populate: 'auto' }, checkDestinationOptions],
  ['live', live, checkLiveOptions],
  ['run', { signal: AbortSignal.abort() }, checkRunOptions],
  ['vm', vm, checkSourceVm],
  ['target', { ramIsFresh: true, allocate: fn, append: fn, commit: fn, abort: fn }, checkTarget],
  [
    'allocated',
    { blocks },
    ({ blocks: given }: { blocks: typeof blocks }) => checkAllocated(layout as never, given as never),
  ],
  ...(['open', 'writer', 'fromQemu', 'readStream', 'writeStream', 'toQemu'] as const).map(
    (of) =>
      [
        of,
        {
          ramFiles: { ram: '/x' },
          sharedRam: { ram: '/x' },
          shared: ['ram'],
          guestAddresses: { ram: 1n },
          streamBytes: 1n,
        },
        (value: never) => checkImageOptions(of, value),
      ] as const,
  ),
];

export const options: Target = {
  name: 'options',
  feeds: 'the checks of every option and of an embedder’s VM with values of wrong types, names and ranges',
  reaches: ['INVALID_ARGUMENT', ...CHECKS.slice(0, 7).map(([name]) => name)],
  play(random, hit) {
    const [name, seed, check] = random.pick(CHECKS);
    const value = mutateTree(random, seed, true);
    tried(['INVALID_ARGUMENT'], hit, () => {
      check(value as never);
      hit(name);
    });
  },
};

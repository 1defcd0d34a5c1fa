/** What can be measured: groups of rows that take turns. */
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { x509Folder } from '../../test/support/authority.ts';
import { sparseRows, sparseTitle } from '../sparse/rows.ts';
import { ownPath, removePath } from '../support/leftovers.ts';
import { Owned } from '../support/owned.ts';
import { isInstalled } from '../support/program.ts';
import type { Ram } from './end.ts';
import { writeRandom } from './memory-vm.ts';
import { type Channels, type Configuration, Ends, idOf, OTHER_BUILD, ourRow } from './ours.ts';
import { aesGcm, iperf3, nativePeer } from './peers.ts';
import type { GroupName, Plan } from './plan.ts';
import { QEMU, qemuRow } from './qemu.ts';
import type { Group, Row } from './sample.ts';

const MIB = 2 ** 20;
const HERE = fileURLToPath(new URL('../../../..', import.meta.url));
/** Beside the RAM of both ends: processes, page tables, what else the machine does. */
const RESERVE_BYTES = 1536 * MIB;

/** In the order in which they are measured; each is opened when the one before has been closed. */
export function groupsOf(plan: Plan): (() => Promise<Group>)[] {
  const wants = (name: GroupName): boolean => plan.only.includes(name);
  return [
    ...(wants('touched') ? [() => touched(plan)] : []),
    ...(wants('fresh') || wants('qemu') ? [() => fresh(plan)] : []),
    ...(wants('flat') ? [() => flat(plan, 'touched'), () => flat(plan, 'fresh')] : []),
    ...(wants('sparse') ? [() => sparse(plan)] : []),
    ...(wants('tls') ? [() => encrypted(plan)] : []),
  ];
}

const hasIperf3 = (): Promise<boolean> => isInstalled('iperf3', 'apt-get install iperf3');
const hasOpenssl = (): Promise<boolean> => isInstalled('openssl', 'apt-get install openssl', 'version');
const hasQemu = (): Promise<boolean> => isInstalled(QEMU, 'apt-get install qemu-system-x86');

async function touched(plan: Plan): Promise<Group> {
  const bytes = plan.mib * MIB;
  const peers = (await hasIperf3()) ? [iperf3(false, bytes), iperf3(true, bytes)] : [];
  const open = new Owned();
  const ours = open.use(await Ends.start(HERE, { into: 'touched', bytes }));
  const others = plan.beside && open.use(await Ends.start(plan.beside, { into: 'touched', bytes }));
  const rows = [...configurations(plan.channels)].flatMap((configuration): Row[] => {
    const row = ourRow(ours, configuration, { bytes, rateOf: 'ram' });
    if (!others || configuration.channels !== plan.channels[0]) return [row];
    const named = { id: `${OTHER_BUILD}${row.id}`, label: `${row.label}, the other build` };
    return [row, ourRow(others, configuration, { bytes, rateOf: 'ram', ...named })];
  });
  return {
    name: 'touched',
    title: `The RAM phase of ${plan.mib} MiB, into memory that is touched already`,
    baseline: 'socket',
    rows: [nativePeer('memcpy', bytes), ...peers, nativePeer('socket', bytes), ...rows],
    notes: peers.length > 0 ? [] : ['iperf3 is not installed'],
    [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
  };
}

function* configurations(channels: readonly Channels[]): Generator<Configuration> {
  for (const pinAll of [true, false])
    for (const crc of [false, true]) for (const many of channels) yield { pinAll, crc, channels: many };
}

async function fresh(plan: Plan): Promise<Group> {
  const bytes = plan.freshMib * MIB;
  const withQemu = plan.only.includes('qemu') && (await hasQemu());
  const kinds = ['touch-mapping', 'touch-pwrite', 'socket', 'socket-mapping', 'socket-pwrite'] as const;
  const limits = plan.only.includes('fresh') ? kinds.map((kind) => nativePeer(kind, bytes)) : [];
  const open = new Owned();
  const { ends, file } = await fileEnds(open, 'fresh', bytes);
  const ours = [...configurations(plan.channels)]
    .filter(({ crc }) => !crc)
    .map((configuration) => ourRow(ends, configuration, { bytes, rateOf: 'total' }));
  const qemus = withQemu ? [0, ...plan.multifd].map((multifd) => qemuRow({ multifd, file, bytes })) : [];
  return {
    name: 'fresh',
    title: `${plan.freshMib} MiB of random RAM, whole migrations into memory that nobody has touched`,
    baseline: idOf({ pinAll: false, crc: false, channels: plan.channels[0] ?? 'default' }),
    rows: [...limits, ...ours, ...qemus],
    notes: plan.only.includes('qemu') && !withQemu ? [`${QEMU} is not installed`] : [],
    [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
  };
}

/** Both ends, and a file of random bytes that is the source's RAM. */
async function fileEnds(
  open: Owned,
  into: Ram['into'],
  bytes: number,
  creds?: string,
): Promise<{ ends: Ends; file: string }> {
  const file = ownPath(`/dev/shm/rdma-migrate-bench-ram-${process.pid}`);
  open.defer(() => removePath(file));
  await writeRandom(file, bytes);
  return { ends: open.use(await Ends.start(HERE, { into, file, bytes }, creds)), file };
}

/**
 * The source's RAM consists of blocks that all are one file of the least size, so that the largest VM fits beside its copy: every byte is read,
 * sent and placed, and the file is far larger than a cache. Into touched memory it shows what a size costs us, into fresh memory what it costs
 * the system too.
 */
async function flat({ flatMib }: Plan, into: Ram['into']): Promise<Group> {
  const unit = Math.min(...flatMib);
  const room = availableBytes() - RESERVE_BYTES - unit * MIB;
  const fits = flatMib.filter((mib) => mib * MIB <= room);
  const open = new Owned();
  const { ends } = await fileEnds(open, into, unit * MIB);
  const configuration = { pinAll: false, crc: false, channels: 'default' } as const;
  const rows = fits.map((mib) =>
    ourRow(ends, configuration, {
      bytes: mib * MIB,
      rateOf: 'total',
      blocks: mib / unit,
      id: `flat/${mib}`,
      label: `${mib / 1024} GiB`,
    }),
  );
  const outermost = [...new Set([fits[0] ?? unit, fits.at(-1) ?? unit])];
  const limits = (into === 'fresh' ? outermost : []).map((mib) =>
    nativePeer('touch-pwrite', mib * MIB, {
      id: `touch-pwrite/${mib}`,
      label: `first touch of ${mib / 1024} GiB by pwrite`,
    }),
  );
  const small = flatMib.filter((mib) => !fits.includes(mib));
  return {
    name: into === 'fresh' ? 'flat' : 'flat-touched',
    title: `Whole migrations of growing size into memory that ${into === 'fresh' ? 'nobody has touched' : 'is touched already'}, dynamic, CRC off; the source's blocks are all one file of ${unit} MiB`,
    baseline: `flat/${unit}`,
    rows: [...limits, ...rows],
    notes: small.map((mib) => `${mib / 1024} GiB do not fit: ${(room / 2 ** 30).toFixed(1)} GiB are free`),
    [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
  };
}

function availableBytes(): number {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1]) * 1024;
}

async function sparse({ sparseGib, sparseMib }: Plan): Promise<Group> {
  const open = new Owned();
  return {
    name: 'sparse',
    title: sparseTitle({ gib: sparseGib, mib: sparseMib }),
    baseline: 'sparse/small',
    rows: await sparseRows({ gib: sparseGib, mib: sparseMib }, open),
    notes: [],
    [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
  };
}

/** Ours with and without, beside QEMU over TLS with the same certificates. */
async function encrypted({ freshMib, channels, multifd }: Plan): Promise<Group> {
  const bytes = freshMib * MIB;
  const open = new Owned();
  const creds = (await hasOpenssl()) ? await credentials(open) : undefined;
  const withQemu = creds !== undefined && (await hasQemu());
  const { ends, file } = await fileEnds(open, 'fresh', bytes, creds);
  const ours = (configuration: Omit<Configuration, 'pinAll'>): Row =>
    ourRow(ends, { pinAll: false, ...configuration }, { bytes, rateOf: 'total' });
  const plain = [false, true].map((crc) => ours({ crc, channels: 'default' }));
  const secured = creds ? channels.map((many) => ours({ crc: false, tls: true, channels: many })) : [];
  const qemus = withQemu ? [0, ...multifd].map((many) => qemuRow({ multifd: many, file, bytes, creds })) : [];
  return {
    name: 'tls',
    title: `${freshMib} MiB of random RAM, whole migrations into memory that nobody has touched, encrypted and not`,
    baseline: idOf({ pinAll: false, crc: false, channels: 'default' }),
    rows: [...(creds ? [aesGcm(bytes)] : []), ...plain, ...secured, ...qemus],
    notes: creds === undefined ? ['openssl is not installed'] : withQemu ? [] : [`${QEMU} is not installed`],
    [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
  };
}

async function credentials(open: Owned): Promise<string> {
  const folder = ownPath(await mkdtemp(join(tmpdir(), 'rdma-migrate-bench-tls-')));
  open.defer(() => removePath(folder));
  return x509Folder(join(folder, 'authority'));
}

/** A sparse VM in two layouts beside a small one that is full: rows that take turns. */
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { Child } from '../support/child.ts';
import type { Owned } from '../support/owned.ts';
import { sourceVm } from '../throughput/memory-vm.ts';
import type { Row, Sample } from '../throughput/sample.ts';

const RECEIVER = new URL('receiver.js', import.meta.url);
const PIECES = [64, 4096] as const;

export interface SparseSizes {
  /** Of the sparse VM. */
  readonly gib: number;
  /** Of it in use, and of the small VM. */
  readonly mib: number;
}

export const sparseTitle = ({ gib, mib }: SparseSizes): string =>
  `A VM of ${gib} GiB with ${mib} MiB in use, compared with one of ${mib} MiB: whole migrations, each into a new process`;

/** The VMs live until `open` is closed. */
export async function sparseRows({ gib, mib }: SparseSizes, open: Owned): Promise<Row[]> {
  const inUse = BigInt(mib) << 20n;
  const total = BigInt(gib) << 30n;
  const row = async (id: string, label: string, pieces?: number): Promise<Row> => {
    const vm = open.use(await sourceVm(inUse, pieces ? { total, pieces: BigInt(pieces) } : {}));
    return { id: `sparse/${id}`, label, kind: 'ours', bytes: Number(inUse), measure: () => move(vm) };
  };
  const rows = [await row('small', `${mib} MiB, all in use`)];
  for (const pieces of PIECES)
    rows.push(await row(String(pieces), `${gib} GiB, in use in ${pieces} pieces`, pieces));
  return rows;
}

async function move(vm: SourceVm): Promise<Sample> {
  await using receiver = new Child(RECEIVER);
  const { uri } = await receiver.hear<{ uri: string }>();
  const cpu = process.cpuUsage();
  const began = performance.now();
  const { channels, control } = await new MigrationSource(vm, uri, { provider: 'iwarp' }).migrate();
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const { peakMiB, cpuSeconds } = await receiver.hear<{ peakMiB: number; cpuSeconds: number }>();
  const both = (user + system) / 1e6 + cpuSeconds;
  return { seconds, totalSeconds: seconds, cpuSeconds: both, channels, peakMiB, ...(control && { control }) };
}

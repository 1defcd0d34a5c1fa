/** What a tunnel costs: the same bytes over plain tcp, through two socat, and through ours, in rounds that take turns. */

import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { benchCommand, listOf, oneOf, runBench, wholeNumber } from '../support/arguments.ts';
import { ownPath } from '../support/leftovers.ts';
import { isInstalled } from '../support/program.ts';
import { machineNow, tell } from '../support/report.ts';
import { median } from '../support/statistics.ts';
import { Status } from '../support/status.ts';
import type { Table } from '../support/table.ts';
import { QEMU } from '../throughput/qemu.ts';
import { fillFile, type Load, qemuLoad, streamLoad, type Taken } from './loads.ts';
import { WAYS, type WayKind } from './ways.ts';

const MIB = 2 ** 20;
const LOADS = ['stream', 'qemu', 'multifd'] as const;

interface Options {
  readonly rounds: number;
  readonly mib: number;
  readonly loads: readonly (typeof LOADS)[number][];
  readonly json?: string;
}

const command = benchCommand('bench:tunnel', 'The tunnel beside plain tcp and socat, on loopback.')
  .option(
    '--rounds <n>',
    'how often each is measured, after one round that warms up',
    wholeNumber(1, 1000),
    7,
  )
  .option('--mib <n>', 'how much is moved each time', wholeNumber(16, 65_536), 1024)
  .option('--loads <list>', `what is moved: ${LOADS.join(', ')}`, listOf(oneOf(LOADS)), [...LOADS])
  .option('--json <file>', 'write what was measured to a file');

await runBench<Options>(command, async ({ rounds, mib, loads: wanted, json }) => {
  const machine = machineNow();
  if (!(await isInstalled('socat', 'apt-get install socat', '-V'))) return;
  const file = join(ownPath(await mkdtemp('/dev/shm/rdma-migrate-bench-')), 'bytes');
  fillFile(file, mib);
  const loads = await loadsOf(wanted, file, mib);
  const status = new Status(loads.length * WAYS.length * (rounds + 1));
  const tables: Table[] = [];
  for (const load of loads) tables.push(tableOf(load, mib, await measure(load, rounds, status)));
  status.end();
  await tell('tunnel', { tables }, { json, machine });
});

async function loadsOf(wanted: Options['loads'], file: string, mib: number): Promise<Load[]> {
  const qemu =
    wanted.some((name) => name !== 'stream') && (await isInstalled(QEMU, 'apt-get install qemu-system-x86'));
  return wanted.flatMap((name) => {
    if (name === 'stream') return [streamLoad(file)];
    return qemu ? [qemuLoad(file, mib * MIB, name === 'multifd' ? 4 : 0)] : [];
  });
}

type Measured = ReadonlyMap<WayKind, readonly Taken[]>;

/** The order is turned round each time. The first round is thrown away. socat takes one connection: it carries no multifd. */
async function measure(load: Load, rounds: number, status: Status): Promise<Measured> {
  const ways = WAYS.filter(({ id }) => load.streams === 1 || !id.startsWith('socat'));
  const measured = new Map<WayKind, Taken[]>(ways.map((way) => [way, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const way of round % 2 === 0 ? ways : [...ways].reverse()) {
      status.step(`${load.label}, ${way.label}`);
      const taken = await load.move(way);
      if (round > 0) measured.get(way)?.push(taken);
    }
  }
  return measured;
}

function tableOf({ id, label }: Load, mib: number, measured: Measured): Table {
  const gib = mib / 1024;
  const speeds = [...measured].map(([way, taken]) => ({
    way,
    speed: gib / median(taken.map(({ seconds }) => seconds)),
    cpu: median(taken.map(({ carrierCpuSeconds }) => carrierCpuSeconds)) / gib,
  }));
  const speedOf = (id: string): number | undefined => speeds.find(({ way }) => way.id === id)?.speed;
  const [plain, socat] = [speedOf('tcp'), speedOf('socat')];
  return {
    id,
    title: `${label}, ${mib} MiB`,
    columns: [
      { head: 'over' },
      { head: 'speed', unit: 'GiB/s' },
      { head: 'to plain tcp' },
      { head: 'to socat' },
      { head: 'CPU in between', unit: 's/GiB' },
    ],
    rows: speeds.map(({ way, speed, cpu }) => [
      way.label,
      speed,
      plain === undefined ? null : speed / plain,
      socat === undefined ? null : speed / socat,
      cpu,
    ]),
  };
}

/** Runs in the VM: `inside.js SETTINGS`, as JSON. Everything is measured once in each round, so that other work on the machine affects all alike. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHECKOUT } from '../checkout.ts';
import type { Scene } from '../interop/scene.ts';
import type { Taken } from './end.ts';
import type { BenchVmOptions } from './options.ts';
import { Ours } from './ours.ts';
import { writeBandwidth } from './perftest.ts';
import { migrateQemu, type Size, withStoppedGuest } from './qemus.ts';
import { rowsOf, type Samples, tableOf } from './table.ts';

const MIB = 2 ** 20;
/** As long as the longest WRITE of ours, and as many of them as we have under way: native/engine. */
const MESSAGE_BYTES = 2 * MIB;
const DEPTH = 8;
/** The guest's program and stack; zero in our VM. */
const REST_MIB = 16;

interface Kept {
  readonly name: string;
  readonly against?: string;
  readonly rates: number[];
  readonly totals: number[];
  readonly migrations: Taken[];
  readonly measure: () => Promise<number | Taken>;
}

const mode = (pinAll: boolean): string => (pinAll ? 'pin-all' : 'dynamic');
const kept = (name: string, measure: Kept['measure'], against?: string): Kept => ({
  name,
  measure,
  rates: [],
  totals: [],
  migrations: [],
  ...(against !== undefined && { against }),
});

const say = (text: string): void => void process.stderr.write(`${text}\n`);

async function measure(all: readonly Kept[], rounds: number, bytes: number): Promise<void> {
  for (let round = 0; round <= rounds; round++) {
    for (const one of all) {
      const taken = await one.measure();
      const text = typeof taken === 'number' ? taken.toPrecision(4) : JSON.stringify(taken);
      say(`${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${one.name}: ${text}`);
      if (round === 0) continue;
      if (typeof taken !== 'number') {
        one.migrations.push(taken);
        one.rates.push(bytes / taken.ram);
        one.totals.push(taken.total);
      } else if (one.name === BASELINE) {
        one.rates.push(taken);
      } else {
        one.totals.push(taken);
      }
    }
  }
}

const MODES = [true, false].flatMap((pinAll) => [true, false].map((touched) => ({ pinAll, touched })));
const BASELINE = 'ib_write_bw';

function samplesOf({ name, against, rates, totals, migrations }: Kept): Samples {
  return {
    name,
    ...(against !== undefined && { against }),
    ...(rates.length > 0 && { rates }),
    ...(totals.length > 0 && { totals }),
    ...(migrations.length > 0 && {
      phases: migrations.map(({ phases }) => phases),
      cpu: migrations.map(({ cpu }) => cpu),
    }),
  };
}

async function withQemus(
  settings: BenchVmOptions,
  scene: Scene,
  size: Size,
  work: (rows: Kept[]) => Promise<void>,
): Promise<void> {
  if (!settings.qemu) return work([]);
  say(`QEMU: its guest fills ${settings.mib} MiB`);
  await withStoppedGuest(scene, size, (source) =>
    work(
      [true, false].map((pinAll) =>
        kept(`QEMU's rdma:, ${mode(pinAll)}`, () => migrateQemu(scene, source, size, pinAll)),
      ),
    ),
  );
}

async function main(settings: BenchVmOptions): Promise<void> {
  const { device, rounds, mib, json, beside } = settings;
  const folder = await mkdtemp(join(tmpdir(), 'bench-'));
  let port = 5200;
  const scene = { folder, nextPort: () => port++ };
  const bytes = mib * MIB;
  const size = { ramBytes: (mib + REST_MIB) * MIB, regionBytes: bytes };
  await using ours = await Ours.start(CHECKOUT, bytes, size.ramBytes);
  await using other = beside === undefined ? undefined : await Ours.start(beside, bytes, size.ramBytes);
  const test = { device: `${device}0`, bytes, messageBytes: MESSAGE_BYTES, depth: DEPTH };
  const baseline = kept(BASELINE, () => writeBandwidth({ ...test, port: port++ }));
  const own = MODES.flatMap(({ pinAll, touched }) => {
    const name = `${mode(pinAll)}, ${touched ? 'touched' : 'fresh'} memory`;
    const against = touched ? undefined : `QEMU's rdma:, ${mode(pinAll)}`;
    const one = (title: string, build: Ours) =>
      kept(`${title}, ${name}`, () => build.move({ pinAll, touched }), against);
    return [one('ours', ours), ...(other ? [one('other build', other)] : [])];
  });
  await withQemus(settings, scene, size, async (qemus) => {
    const all = [baseline, ...own, ...qemus];
    await measure(all, rounds, bytes);
    const rows = rowsOf(all.map(samplesOf));
    const facts = { device, mib, rounds, messageBytes: MESSAGE_BYTES, depth: DEPTH };
    console.log(
      json
        ? JSON.stringify({ ...facts, rows, samples: all.map(samplesOf) })
        : `${device}, ${mib} MiB of data, WRITEs of 2 MiB, medians of ${rounds} rounds in one boot\n${tableOf(rows)}`,
    );
  });
}

await main(JSON.parse(process.argv[2] ?? '{}') as BenchVmOptions);
process.exit(0);

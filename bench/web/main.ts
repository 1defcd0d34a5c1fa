/**
 * What the page costs the migration that it shows: the same one with the page open in another process, and without a page, in turns. How long
 * they take, and how late the source's event loop is.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { Child } from '../support/child.ts';
import { machineNow, tell } from '../support/report.ts';
import { median } from '../support/statistics.ts';
import { Status } from '../support/status.ts';
import { sourceVm } from '../throughput/memory-vm.ts';

const RECEIVER = new URL('../sparse/receiver.js', import.meta.url);
const VIEWER = new URL('viewer.js', import.meta.url);
/** No public entry of the package, and to be the same modules as that: so not by its path in this folder. */
const WEB = new URL('../../../../dist/web/index.js', import.meta.url).href;
const RESOLUTION_MS = 1;

/** Of its lib/web/index.ts, with the types of the package. */
interface Web {
  readonly WebServer: {
    listen(address: { readonly host: string; readonly port: number }): Promise<Page>;
  };
}
interface Page {
  readonly origin: string;
  readonly token: string;
  show(source: MigrationSource, title: string, cancel: () => void): void;
  close(): Promise<void>;
}

interface Sizes {
  readonly gib: number;
  readonly mib: number;
}

interface Sample {
  readonly seconds: number;
  /** Milliseconds. */
  readonly p99: number;
  readonly maps: number;
}

const command = benchCommand('bench:web', 'A migration with its page open compared with one without.')
  .option(
    '--rounds <n>',
    'how often each is measured, after one round that warms up',
    wholeNumber(1, 1000),
    15,
  )
  .option('--gib <n>', "size of the VM's RAM", wholeNumber(1, 1024), 4)
  .option('--mib <n>', 'RAM in use', wholeNumber(16, 2 ** 20), 2048)
  .option('--viewers <n>', 'pages that are open', wholeNumber(1, 256), 1)
  .option('--json <file>', 'write what was measured to a file');

await runBench<{ rounds: number; viewers: number; json?: string } & Sizes>(
  command,
  async ({ rounds, viewers, gib, mib, json }) => {
    const machine = machineNow();
    await using vm = await sourceVm(BigInt(mib) << 20n, { total: BigInt(gib) << 30n, pieces: 64n });
    const samples: Record<'without' | 'with', Sample[]> = { without: [], with: [] };
    const status = new Status(2 * (rounds + 1));
    for (let round = 0; round <= rounds; round++) {
      // Each goes first in every other round.
      for (const open of round % 2 === 0 ? [false, true] : [true, false]) {
        status.step(`round ${round}, ${open ? 'with' : 'without'} the page`);
        const sample = await (open ? watched(vm, viewers) : move(vm));
        if (round > 0) samples[open ? 'with' : 'without'].push(sample);
      }
    }
    status.end();
    const row = (what: 'without' | 'with'): (string | number)[] => {
      const of = samples[what];
      const seconds = median(of.map((one) => one.seconds));
      const ratio = seconds / median(samples.without.map((one) => one.seconds));
      const p99 = median(of.map((one) => one.p99));
      return [`${what} the page`, seconds, ratio, p99, median(of.map((one) => one.maps))];
    };
    const table = {
      id: 'web',
      title: `A VM of ${gib} GiB with ${mib} MiB in use, ${viewers === 1 ? 'one viewer' : `${viewers} viewers`}: medians of ${rounds}`,
      columns: [
        { head: 'migration' },
        { head: 'total time', unit: 's', digits: 3 },
        { head: 'ratio', digits: 3 },
        { head: 'event loop late, p99', unit: 'ms', digits: 2 },
        { head: 'maps told' },
      ],
      rows: [row('without'), row('with')],
    };
    await tell('web', { tables: [table], samples: [samples] }, { json, machine });
  },
);

async function move(vm: SourceVm, shown: (source: MigrationSource) => void = () => {}): Promise<Sample> {
  await using receiver = new Child(RECEIVER);
  const { uri } = await receiver.hear<{ uri: string }>();
  const source = new MigrationSource(vm, uri, { provider: 'iwarp' });
  shown(source);
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const began = performance.now();
  await source.migrate();
  const seconds = (performance.now() - began) / 1000;
  delays.disable();
  return { seconds, p99: Math.max(0, delays.percentile(99) / 1e6 - RESOLUTION_MS), maps: 0 };
}

/** The viewers are there before the migration begins, and have seen some of it. */
async function watched(vm: SourceVm, count: number): Promise<Sample> {
  const { WebServer } = (await import(WEB)) as Web;
  const server = await WebServer.listen({ host: '127.0.0.1', port: 0 });
  const viewers = Array.from({ length: count }, () => new Child(VIEWER, [server.origin, server.token]));
  try {
    for (const viewer of viewers) await viewer.hear<{ open: true }>();
    const sample = await move(vm, (source) => server.show(source, 'measured', () => {}));
    await server.close();
    const [first] = await Promise.all(
      viewers.map((viewer) => viewer.hear<{ pictures: number; maps: number }>()),
    );
    if (!first || first.pictures < 2) throw new Error('the viewer has seen nothing of the migration');
    return { ...sample, maps: first.maps };
  } finally {
    await server.close();
    for (const viewer of viewers) await viewer[Symbol.asyncDispose]();
  }
}

/**
 * Where the time goes: samples both ends of migrations with perf and draws a flame graph. Needs `perf`; where a virtual machine has no
 * hardware counters it samples by the clock (`cpu-clock`), which is enough for this.
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { benchCommand, oneOf, runBench, wholeNumber } from '../support/arguments.ts';
import { ownPath, removePath } from '../support/leftovers.ts';
import { Owned } from '../support/owned.ts';
import { isInstalled } from '../support/program.ts';
import { machineNow, machineText } from '../support/report.ts';
import { writeRandom } from '../throughput/memory-vm.ts';
import { Ends, labelOf } from '../throughput/ours.ts';
import { flameGraph } from './flame-graph.ts';
import { sampled } from './perf.ts';
import { treeOf } from './stacks.ts';

const HERE = fileURLToPath(new URL('../../../..', import.meta.url));

interface Options {
  readonly into: 'touched' | 'fresh';
  readonly mib: number;
  readonly moves: number;
  readonly pinAll?: boolean;
  readonly crc?: boolean;
  readonly channels?: number;
  readonly out: string;
}

const command = benchCommand(
  'bench:profile',
  'Where the time of a migration goes: a flame graph of both ends.',
)
  .option('--into <memory>', 'touched or fresh', oneOf(['touched', 'fresh']), 'touched')
  .option('--mib <n>', 'RAM to move', wholeNumber(4, 2 ** 20), 1024)
  .option('--moves <n>', 'migrations to sample, after one that warms up', wholeNumber(1, 1000), 5)
  .option('--pin-all', 'register all RAM at once')
  .option('--crc', 'CRC32C on the wire')
  .option('--channels <n>', 'queue pairs (default: what is taken where nobody says)', wholeNumber(1, 16))
  .requiredOption('--out <file>', 'the SVG to write');

async function start(open: Owned, into: Options['into'], bytes: number): Promise<Ends> {
  if (into === 'touched') return open.use(await Ends.start(HERE, { into, bytes }));
  const file = ownPath(`/dev/shm/rdma-migrate-profile-${process.pid}`);
  open.defer(() => removePath(file));
  await writeRandom(file, bytes);
  return open.use(await Ends.start(HERE, { into, bytes, file }));
}

await runBench<Options>(command, async ({ into, mib, moves, pinAll = false, crc = false, channels, out }) => {
  if (!(await isInstalled('perf', 'apt-get install linux-perf'))) throw new Error('perf is needed');
  const machine = machineNow();
  await using open = new Owned();
  const ends = await start(open, into, mib * 2 ** 20);
  const settings = { pinAll, crc, ...(channels !== undefined && { channels }) };
  await ends.move(settings, 'total');
  const script = await sampled(Object.values(ends.pids), async () => {
    for (let move = 0; move < moves; move++) await ends.move(settings, 'total');
  });
  const { source } = ends.pids;
  const root = treeOf(script, (pid) => (pid === source ? 'source' : 'destination'));
  const title = `${labelOf({ pinAll, crc, channels: channels ?? 'default' })}, ${mib} MiB into ${into} memory: CPU time of both ends`;
  await writeFile(
    out,
    flameGraph({
      title,
      subtitle: `${root.samples} samples; orange: this package, blue: kernel and libc; ${machineText(machine)}`,
      root,
    }),
  );
  for (const end of root.callees) {
    const { name, samples } = end;
    console.log(`${name}: ${((100 * samples) / root.samples).toFixed(0)} % of the CPU time of both`);
  }
});

/**
 * What sparse RAM costs: a VM of 16 GiB with 256 MiB in use compared with one of 256 MiB, in turn, each into a new process. Total time, and
 * the most memory that the destination's process had resident.
 *
 *   npm run bench:sparse -- [--rounds N] [--gib N] [--mib N] [--json]
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { sourceVm } from '../throughput/memory-vm.ts';

const RECEIVER = fileURLToPath(new URL('receiver.js', import.meta.url));

interface Taken {
  readonly seconds: number;
  readonly peakMiB: number;
}

async function move(vm: SourceVm): Promise<Taken> {
  const receiver = fork(RECEIVER);
  const exited = once(receiver, 'exit');
  const [{ uri }] = (await once(receiver, 'message')) as [{ uri: string }];
  const done = once(receiver, 'message') as Promise<[{ peakMiB: number }]>;
  const began = performance.now();
  await new MigrationSource(vm, uri, { provider: 'iwarp' }).migrate();
  const seconds = (performance.now() - began) / 1000;
  const [{ peakMiB }] = await done;
  await exited;
  return { seconds, peakMiB };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    gib: { type: 'string', default: '16' },
    mib: { type: 'string', default: '256' },
    json: { type: 'boolean', default: false },
  },
});
const inUse = BigInt(values.mib) << 20n;
const total = BigInt(values.gib) << 30n;
await using small = await sourceVm(inUse);
await using large = await sourceVm(inUse, { total, pieces: 64n });
await using scattered = await sourceVm(inUse, { total, pieces: 4096n });
const rows = [
  { name: `${values.mib} MiB, all in use`, vm: small },
  { name: `${values.gib} GiB, in use in 64 pieces`, vm: large },
  { name: `${values.gib} GiB, in use in 4096 pieces`, vm: scattered },
].map((row) => ({ ...row, taken: [] as Taken[] }));
for (let round = 0; round <= Number(values.rounds); round++) {
  for (const { vm, taken } of rows) {
    const measured = await move(vm);
    if (round > 0) taken.push(measured); // the first round warms up
  }
}
const base = rows[0]?.taken ?? [];
const results = rows.map(({ name, taken }) => ({
  name,
  seconds: median(taken.map(({ seconds }) => seconds)),
  ratio: median(taken.map(({ seconds }, i) => seconds / (base[i]?.seconds ?? Number.NaN))),
  peakMiB: Math.max(...taken.map(({ peakMiB }) => peakMiB)),
}));
if (values.json) console.log(JSON.stringify(results));
else {
  for (const { name, seconds, ratio, peakMiB } of results) {
    const figures = `${seconds.toFixed(2)} s  x${ratio.toFixed(2)}`;
    console.log(`${name.padEnd(32)} ${figures}  destination at most ${peakMiB.toFixed(0)} MiB resident`);
  }
}

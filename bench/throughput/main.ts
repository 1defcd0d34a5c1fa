/**
 * How fast RAM moves, compared with what the machine can do at all, in one run and in turn: memcpy, iperf3, a raw loop over a loopback socket
 * without framing, and rdma-migrate on its software RNIC. Both ends are processes on this machine. All memory is touched beforehand.
 *
 *   npm run bench -- [--rounds N] [--mib N] [--json]
 */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { MigrationSource, type SourceVm } from 'rdma-migrate';
import { sourceVm } from './memory-vm.ts';

const run = promisify(execFile);
const RAW_SOCKET = fileURLToPath(new URL('../../../bench/raw_socket', import.meta.url));
const BASELINE = 'raw socket loop';

/** Seconds for one move. */
type Measure = () => Promise<number>;

async function raw(kind: 'memcpy' | 'socket', bytes: number): Promise<number> {
  const { stdout } = await run(RAW_SOCKET, [kind, String(bytes)]);
  return Number(stdout);
}

async function iperf3(bytes: number): Promise<number> {
  const server = execFile('iperf3', ['-s', '-1', '-B', '127.0.0.1', '-p', '5299']);
  try {
    for (let attempt = 0; ; attempt++) {
      try {
        const { stdout } = await run('iperf3', [
          '-c',
          '127.0.0.1',
          '-p',
          '5299',
          '-n',
          String(bytes),
          '-l',
          '1M',
          '-J',
        ]);
        const { end } = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
        return (bytes * 8) / end.sum_received.bits_per_second;
      } catch (error) {
        if (attempt >= 20) throw error; // its server needs a moment to listen
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  } finally {
    server.kill();
  }
}

/** The time of the RAM phase: from the first request for a key until the destination has accepted the end of the round. */
async function ours(
  vm: SourceVm,
  receiver: ChildProcess,
  options: { pinAll: boolean; crc: boolean },
): Promise<number> {
  receiver.send({ crc: options.crc });
  const [{ uri }] = (await once(receiver, 'message')) as [{ uri: string }];
  const done = once(receiver, 'message');
  const source = new MigrationSource(vm, uri, { ...options, provider: 'iwarp' });
  const at: Record<string, number> = {};
  source.on('phase', (phase) => {
    at[phase] = performance.now();
  });
  await source.migrate();
  await done;
  return ((at['device-state'] ?? Number.NaN) - (at.ram ?? Number.NaN)) / 1000;
}

async function hasIperf3(): Promise<boolean> {
  return run('iperf3', ['--version']).then(
    () => true,
    () => {
      console.error('iperf3 is not installed, so it is left out: apt-get install iperf3');
      return false;
    },
  );
}

function summary(seconds: readonly number[], bytes: number) {
  const rates = seconds.map((s) => bytes / s / 1e9).sort((a, b) => a - b);
  const middle = rates[Math.floor(rates.length / 2)] as number;
  return { min: rates[0] as number, median: middle, max: rates.at(-1) as number };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '7' },
      mib: { type: 'string', default: '1024' },
      json: { type: 'boolean', default: false },
    },
  });
  const bytes = Number(values.mib) * 2 ** 20;
  await using vm = await sourceVm(BigInt(bytes));
  const receiver = fork(fileURLToPath(new URL('receiver.js', import.meta.url)));
  const measures: [string, Measure][] = [
    ['memcpy', () => raw('memcpy', bytes)],
    ...((await hasIperf3()) ? [['iperf3', () => iperf3(bytes)] as [string, Measure]] : []),
    [BASELINE, () => raw('socket', bytes)],
    ...[true, false].flatMap((pinAll) =>
      [false, true].map((crc): [string, Measure] => [
        `${pinAll ? 'pin-all' : 'dynamic'}, CRC ${crc ? 'on' : 'off'}`,
        () => ours(vm, receiver, { pinAll, crc }),
      ]),
    ),
  ];
  const seconds = new Map(measures.map(([name]) => [name, [] as number[]]));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [name, measure] of measures) {
      const taken = await measure();
      if (round > 0) seconds.get(name)?.push(taken); // the first round warms up
    }
  }
  receiver.disconnect();
  report(seconds, bytes, values.json);
}

function report(seconds: Map<string, number[]>, bytes: number, json: boolean): void {
  const baseline = seconds.get(BASELINE) as number[];
  const rows = [...seconds].map(([name, taken]) => {
    const ratios = taken.map((s, i) => (baseline[i] as number) / s).sort((a, b) => a - b);
    return { name, ...summary(taken, bytes), ratio: ratios[Math.floor(ratios.length / 2)] as number };
  });
  if (json) {
    console.log(
      JSON.stringify({ bytes, cpus: cpus().length, model: cpus()[0]?.model, node: process.version, rows }),
    );
    return;
  }
  console.log(
    `${bytes / 2 ** 20} MiB, ${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}; GB/s, and the ratio to the ${BASELINE} of the same round`,
  );
  for (const { name, min, median, max, ratio } of rows) {
    const figures = [min, median, max].map((rate) => rate.toFixed(2).padStart(7)).join('');
    console.log(`${name.padEnd(20)}${figures}   x${ratio.toFixed(2)}`);
  }
}

await main();

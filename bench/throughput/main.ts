/**
 * How fast RAM moves, compared with what the machine can do at all, in one run and in turn: memcpy, iperf3, a raw loop over a loopback socket
 * without framing, and rdma-migrate on its software RNIC. Both ends are processes on this machine. All memory is touched beforehand.
 *
 *   npm run bench -- [--rounds N] [--mib N] [--channels N,N...] [--beside FOLDER] [--json]
 *
 * `--beside`: the folder of another build of this package, measured in the same rounds.
 */
import { execFile } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Child } from '../support/child.ts';
import type { Settings, Taken } from './end.ts';

const run = promisify(execFile);
const RAW_SOCKET = fileURLToPath(new URL('../../../bench/raw_socket', import.meta.url));
const HERE = fileURLToPath(new URL('../../../..', import.meta.url));
const END = new URL('end.js', import.meta.url);
const BASELINE = 'raw socket loop';

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

/** Two processes of one build. */
class Ends {
  readonly #source: Child;
  readonly #destination: Child;

  private constructor(folder: string, bytes: number) {
    this.#source = new Child(END, ['source', folder, String(bytes)]);
    this.#destination = new Child(END, ['destination', folder]);
  }

  static async start(folder: string, bytes: number): Promise<Ends> {
    const ends = new Ends(folder, bytes);
    await ends.#source.hear();
    return ends;
  }

  /** One migration; the CPU time is that of both ends. */
  async move(settings: Settings): Promise<Taken> {
    this.#destination.say(settings);
    const { uri } = await this.#destination.hear<{ uri: string }>();
    this.#source.say({ ...settings, uri });
    const [sent, received] = await Promise.all([this.#source.hear<Taken>(), this.#destination.hear<Taken>()]);
    return { ...sent, cpuSeconds: sent.cpuSeconds + received.cpuSeconds };
  }

  async stop(): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
    await this.#destination[Symbol.asyncDispose]();
  }
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

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

interface Row {
  readonly name: string;
  /** GB/s */
  readonly min: number;
  readonly median: number;
  readonly max: number;
  /** To the baseline of the same round. */
  readonly ratio: number;
  /** Of both ends, for each GiB of RAM; not of the yardsticks. */
  readonly cpuSecondsPerGib?: number;
  /** Of a whole migration, from the connect to the commit. */
  readonly totalSeconds?: number;
}

interface Samples {
  readonly seconds: number[];
  readonly migrations: Taken[];
}

function rowOf(name: string, { seconds, migrations }: Samples, baseline: Samples, bytes: number): Row {
  const rates = seconds.map((taken) => bytes / taken / 1e9);
  const cpu = migrations.map(({ cpuSeconds }) => (cpuSeconds * 2 ** 30) / bytes);
  return {
    name,
    min: Math.min(...rates),
    median: median(rates),
    max: Math.max(...rates),
    ratio: median(seconds.map((taken, round) => (baseline.seconds[round] as number) / taken)),
    ...(migrations.length > 0 && {
      cpuSecondsPerGib: median(cpu),
      totalSeconds: median(migrations.map(({ totalSeconds }) => totalSeconds)),
    }),
  };
}

function print(rows: readonly Row[], bytes: number): void {
  const machine = `${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}`;
  console.log(`${bytes / 2 ** 20} MiB, ${machine}`);
  console.log(
    `${''.padEnd(34)}  GB/s: least, median, most   to the ${BASELINE}   CPU s/GiB   whole migration, s`,
  );
  for (const { name, min, median, max, ratio, cpuSecondsPerGib, totalSeconds } of rows) {
    const figures = [min, median, max].map((rate) => rate.toFixed(2).padStart(7)).join('');
    const rest = [cpuSecondsPerGib, totalSeconds].map((value) => value?.toFixed(2).padStart(12) ?? '');
    console.log(`${name.padEnd(34)}${figures}   x${ratio.toFixed(2)}${rest.join('')}`);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '7' },
      mib: { type: 'string', default: '1024' },
      channels: { type: 'string', default: '1' },
      beside: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const bytes = Number(values.mib) * 2 ** 20;
  const ours = await Ends.start(HERE, bytes);
  const others = values.beside === undefined ? undefined : await Ends.start(values.beside, bytes);
  const samples = new Map<string, Samples>();
  const rows = new Map<string, () => Promise<number | Taken>>([
    ['memcpy', () => raw('memcpy', bytes)],
    ...((await hasIperf3()) ? [['iperf3', () => iperf3(bytes)] as const] : []),
    [BASELINE, () => raw('socket', bytes)],
  ]);
  for (const pinAll of [true, false]) {
    for (const crc of [false, true]) {
      const name = `${pinAll ? 'pin-all' : 'dynamic'}, CRC ${crc ? 'on' : 'off'}`;
      for (const channels of values.channels.split(',').map(Number)) {
        const many = channels === 1 ? '' : `, ${channels} channels`;
        rows.set(`${name}${many}`, () => ours.move({ pinAll, crc, channels }));
      }
      if (others) rows.set(`${name}, the other build`, () => others.move({ pinAll, crc }));
    }
  }
  for (const name of rows.keys()) samples.set(name, { seconds: [], migrations: [] });
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [name, measure] of rows) {
      const taken = await measure();
      if (round === 0) continue; // it warms up
      const { seconds, migrations } = samples.get(name) as Samples;
      seconds.push(typeof taken === 'number' ? taken : taken.ramSeconds);
      if (typeof taken !== 'number') migrations.push(taken);
    }
  }
  await ours.stop();
  await others?.stop();
  const baseline = samples.get(BASELINE) as Samples;
  const table = [...samples].map(([name, taken]) => rowOf(name, taken, baseline, bytes));
  if (!values.json) return print(table, bytes);
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, node: process.version };
  console.log(JSON.stringify({ bytes, ...machine, rows: table }));
}

await main();

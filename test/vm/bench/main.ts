/**
 * `npm run bench:vm -- [--device siw|rxe] [--rounds N] [--mib N] [--no-qemu] [--beside FOLDER] [--json]`: how fast RAM moves over an RDMA device, beside
 * `ib_write_bw` and QEMU's own `rdma:`, in turn and in one boot of the test VM. Everything is emulated: only the ratios say something.
 */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CHECKOUT } from '../checkout.ts';
import { BenchError } from '../failures.ts';
import { interruptSignal } from '../interrupt.ts';
import { runInMachine } from '../machine.ts';
import { ensureBench } from '../setup.ts';
import { type BenchVmOptions, benchVmOptions } from './options.ts';

const TIMEOUT_MS = 60 * 60_000;
const MEMORY_MIB = 6144;

const say = (text: string): void => void process.stderr.write(`bench:vm: ${text}\n`);

async function run(options: BenchVmOptions): Promise<number> {
  const bench = await ensureBench(say);
  const inside = relative(CHECKOUT, fileURLToPath(new URL('inside.js', import.meta.url)));
  return runInMachine(bench, {
    device: options.device,
    memoryMiB: MEMORY_MIB,
    forward: [],
    unprivileged: false,
    timeoutMs: TIMEOUT_MS,
    verbose: false,
    command: ['node', inside, JSON.stringify(options)],
    stdout: process.stdout,
    stderr: process.stderr,
    inMemory: true,
    signal: interruptSignal(),
  });
}

process.exit(
  await Promise.resolve()
    .then(() => run(benchVmOptions(process.argv.slice(2))))
    .catch((error: unknown) => {
      if (!(error instanceof BenchError)) throw error;
      if (error.message !== '') say(error.message);
      return error.exitCode;
    }),
);

/** `npm run vm`: runs a command in a VM that has an RDMA device. */
import { parseBenchArguments } from './arguments.ts';
import { BenchError } from './failures.ts';
import { interruptSignal } from './interrupt.ts';
import { runInMachine } from './machine.ts';
import { ensureBench } from './setup.ts';

const say = (text: string): void => void process.stderr.write(`vm: ${text}\n`);

async function main(): Promise<number> {
  const options = parseBenchArguments(process.argv.slice(2));
  const bench = await ensureBench(say);
  const { stdout, stderr } = process;
  return runInMachine(bench, { ...options, stdout, stderr, signal: interruptSignal() });
}

process.exitCode = await main().catch((error: unknown) => {
  if (!(error instanceof BenchError)) throw error;
  if (error.message !== '') say(error.message);
  return error.exitCode;
});

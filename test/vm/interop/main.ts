/** `npm run vm:interop -- [--device siw|rxe] [--only TEXT] [--verbs] [--times]`: the interop matrix alone, part of it, or its bench. */
import { parseArgs } from 'node:util';
import { BenchError } from '../failures.ts';
import { interruptSignal } from '../interrupt.ts';
import { ensureBench } from '../setup.ts';
import { runInterop } from './run.ts';

const say = (text: string): void => void process.stderr.write(`vm: ${text}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'siw' },
      only: { type: 'string', default: '' },
      verbs: { type: 'boolean', default: false },
      times: { type: 'boolean', default: false },
    },
  });
  const device = values.device === 'rxe' ? 'rxe' : 'siw';
  const bench = await ensureBench(say);
  const { only, verbs, times } = values;
  return runInterop(bench, { device, only, verbs, times, every: true }, interruptSignal());
}

process.exit(
  await main().catch((error: unknown) => {
    if (!(error instanceof BenchError)) throw error;
    say(error.message);
    return error.exitCode;
  }),
);

/** `npm run bench:report`: makes docs/benchmarks.md and its pictures from docs/benchmarks/*.json. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { benchCommand, runBench } from '../support/arguments.ts';
import { madeFiles } from './files.ts';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));

const command = benchCommand(
  'bench:report',
  'Makes docs/benchmarks.md and its pictures from docs/benchmarks/*.json.',
);
await runBench(command, async () => {
  for (const [path, content] of madeFiles(ROOT)) {
    writeFileSync(join(ROOT, path), content);
    console.log(path);
  }
});

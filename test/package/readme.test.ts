/** The code of README.md is JavaScript that the oldest Node that is supported reads. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../support/temp.ts';

it('is free of syntax that only TypeScript or a later Node has', async () => {
  await using folder = await temporaryFolder();
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const blocks = [...readme.matchAll(/^```(?:js|ts)\n(.*?)^```$/gms)].map(([, code]) => code as string);
  expect(blocks.length).toBeGreaterThan(0);
  for (const [index, code] of blocks.entries()) {
    const file = join(folder.path, `${index}.mjs`);
    // Node 24 reads `await using` and `using`; 20 and 22 do not.
    expect(code).not.toMatch(/\busing\s+\w+\s*=/);
    await writeFile(file, code);
    await promisify(execFile)(process.execPath, ['--check', file]);
  }
});

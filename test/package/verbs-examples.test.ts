/**
 * The examples of `rdma-migrate/verbs` as a user has them: in an empty folder, with the package out of its tarball, compiled in strict TypeScript.
 * Without a network: what the package depends on, and its compiled addon, are this checkout's.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/temp.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const EXAMPLES = ['verbs-ends', 'verbs-pingpong', 'verbs-bulk-writer'];
const STRICT = {
  compilerOptions: {
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable'],
    module: 'NodeNext',
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    noPropertyAccessFromIndexSignature: false,
    noImplicitOverride: true,
    noUnusedLocals: true,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
    skipLibCheck: false,
    types: ['node'],
    rootDir: '.',
    outDir: 'out',
  },
  include: [...EXAMPLES, 'docs-*.ts'],
};

const run = promisify(execFile);
let folder: Awaited<ReturnType<typeof temporaryFolder>>;

async function link(name: string): Promise<void> {
  const target = join(folder.path, 'node_modules', name);
  await mkdir(join(target, '..'), { recursive: true });
  await symlink(join(CHECKOUT, 'node_modules', name), target);
}

beforeAll(async () => {
  folder = await temporaryFolder();
  // npm would compile and build again; both have been done.
  const { stdout } = await run(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', folder.path],
    {
      cwd: CHECKOUT,
    },
  );
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  const installed = join(folder.path, 'node_modules', 'rdma-migrate');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', join(folder.path, filename), '-C', installed, '--strip-components=1']);
  await cp(join(CHECKOUT, 'build/Release'), join(installed, 'build/Release'), { recursive: true });
  const { dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'));
  for (const name of [...Object.keys(dependencies), '@types']) await link(name);
  await writeFile(join(folder.path, 'package.json'), '{ "type": "module", "private": true }');
  await writeFile(join(folder.path, 'tsconfig.json'), JSON.stringify(STRICT));
  for (const name of EXAMPLES)
    await cp(join(installed, 'examples', name), join(folder.path, name), { recursive: true });
  const text = await readFile(join(installed, 'docs/verbs.md'), 'utf8');
  for (const [index, block] of [...text.matchAll(/^```ts\n(.*?)^```$/gms)].entries())
    await writeFile(join(folder.path, `docs-${index}.ts`), block[1] as string);
  const compiler = join(CHECKOUT, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [compiler, '-p', folder.path]).catch((error: { stdout: string }) => {
    throw new Error(error.stdout);
  });
});

afterAll(() => folder[Symbol.asyncDispose]());

const script = (example: string): string => join(folder.path, 'out', example, 'main.js');

interface Side {
  readonly stderr: string;
  readonly code: number | null;
}

/** A side that listens: where, and how it ends after SIGINT. */
async function listening(example: string): Promise<{ address: string; interrupt: () => Promise<Side> }> {
  const child = spawn(process.execPath, [script(example), '--listen', '127.0.0.1:0', '--provider', 'iwarp'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  const ended = once(child, 'close') as Promise<[number | null]>;
  const address = await new Promise<string>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      const found = /listening on (\S+)/.exec(stderr);
      if (found?.[1] !== undefined) resolve(found[1]);
    });
    child.on('close', () => reject(new Error(stderr)));
  });
  return {
    address,
    async interrupt() {
      child.kill('SIGINT');
      const [code] = await ended;
      return { stderr, code };
    },
  };
}

it('the first example of docs/verbs.md does what it says', async () => {
  const { stdout } = await run(process.execPath, [join(folder.path, 'out/docs-0.js')]);
  expect(stdout).toMatch(/^1n RDMA_WRITE SUCCESS\n(2n SEND SUCCESS\n)?hello\n$/);
});

describe.each([
  { example: 'verbs-pingpong', args: ['--count', '500'], result: { count: 500, size: 64 } },
  {
    example: 'verbs-bulk-writer',
    args: ['--mib', '8', '--rounds', '2', '--chunk-kib', '100'],
    result: { bytes: 16 << 20, identical: true },
  },
])('$example', ({ example, args, result }) => {
  it('runs both sides in one process', async () => {
    const { stdout } = await run(process.execPath, [
      script(example),
      ...args,
      '--json',
      '--provider',
      'iwarp',
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ provider: 'iwarp', ...result });
  });

  it('runs as two processes, and the one that listens ends in order at Ctrl-C', async () => {
    const side = await listening(example);
    for (let round = 0; round < 2; round += 1) {
      const all = [script(example), ...args, '--connect', side.address, '--provider', 'iwarp', '--crc'];
      const { stdout } = await run(process.execPath, all);
      expect(stdout).toMatch(/^iwarp \(MPA revision 2, CRC32C on\)/);
    }
    const { stderr, code } = await side.interrupt();
    expect(stderr.split('\n').slice(1)).toEqual(['interrupted', '']);
    expect(code).toBe(130);
  });

  it('says how it is used', async () => {
    const { stdout } = await run(process.execPath, [script(example), '--help']);
    expect(stdout).toMatch(/^Usage: main.js/);
    const wrong = run(process.execPath, [script(example), '--provider', 'carrier-pigeon']);
    await expect(wrong).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('INVALID_ARGUMENT'),
    });
    await expect(run(process.execPath, [script(example), '--nonsense'])).rejects.toMatchObject({ code: 2 });
  });
});

/**
 * The examples of `rdma-migrate/verbs` and the code in documents, as a user has them: in an empty folder, with the package out of its tarball, compiled in strict TypeScript.
 * Without a network: what the package depends on, and its compiled addon, are this checkout's.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/temp.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const EXAMPLES = ['verbs-ends', 'verbs-pingpong', 'verbs-bulk-writer'];
/** Documents all of whose code is compiled, block by block. A block that names a file (after `js` or `ts`) is that file. */
const DOCUMENTS = ['README.md', 'docs/getting-started.md', 'docs/recipes.md', 'docs/verbs.md'];
const STRICT = {
  compilerOptions: {
    allowJs: true,
    checkJs: true,
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
  include: [...EXAMPLES, '*.ts', '*.mjs'],
};

const run = promisify(execFile);
let folder: Awaited<ReturnType<typeof temporaryFolder>>;

async function link(name: string): Promise<void> {
  const target = join(folder.path, 'node_modules', name);
  await mkdir(join(target, '..'), { recursive: true });
  await symlink(join(CHECKOUT, 'node_modules', name), target);
}

/** Writes each block of the document to a file: `verbs-0.ts`, or what the block is called. */
async function writeCode(document: string): Promise<void> {
  const text = await readFile(document, 'utf8');
  const blocks = [...text.matchAll(/^```(js|ts)(?: ([\w.-]+))?\n(.*?)^```$/gms)];
  if (blocks.length === 0) throw new Error(`no code in ${document}`);
  for (const [index, [, language, name, code]] of blocks.entries()) {
    const ownName = `${basename(document, '.md')}-${index}.${language === 'js' ? 'mjs' : 'ts'}`;
    await writeFile(join(folder.path, name ?? ownName), code as string);
  }
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
  for (const document of DOCUMENTS) await writeCode(join(installed, document));
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
  const { stdout } = await run(process.execPath, [join(folder.path, 'out/verbs-0.js')]);
  expect(stdout).toMatch(/^1n RDMA_WRITE SUCCESS\n(2n SEND SUCCESS\n)?hello\n$/);
});

it('docs/getting-started.md ends with a moved VM, after at most 60 lines of code', async () => {
  const file = (name: string): string => join(folder.path, `${name}.mjs`);
  const lines = await Promise.all(['destination', 'source'].map((name) => readFile(file(name), 'utf8')));
  expect(lines.join('').split('\n').length - 1).toBeLessThanOrEqual(60);
  const child = spawn(process.execPath, [file('destination'), 'rdma:127.0.0.1:0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const ended = once(child, 'close');
    let received = '';
    const uri = await new Promise<string>((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        received += text;
        const found = /listening at (\S+)/.exec(received);
        if (found?.[1] !== undefined) resolve(found[1]);
      });
      child.on('close', () => reject(new Error(`it has ended: ${received}`)));
    });
    const { stdout } = await run(process.execPath, [file('source'), uri, join(folder.path, 'guest.ram')]);
    const [, digest] = /^committed: 671\d{5} bytes; (ram: \w{64})$/m.exec(stdout) ?? [];
    expect(digest, stdout).toBeDefined();
    expect(await ended).toEqual([0, null]);
    expect(received.split('\n').slice(1)).toEqual([
      'cpu: rip=0x7c00',
      digest,
      'the VM is here: committed',
      '',
    ]);
  } finally {
    child.kill('SIGKILL');
  }
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

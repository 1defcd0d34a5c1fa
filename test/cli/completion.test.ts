/** Completion scripts in real shells, and man pages before real formatters: both made from the definitions that --help has. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Option } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bashCompletion } from '../../lib/cli/completion/bash.ts';
import { fishCompletion } from '../../lib/cli/completion/fish.ts';
import { everyCommand, modelOf } from '../../lib/cli/completion/model.ts';
import { zshCompletion } from '../../lib/cli/completion/zsh.ts';
import { manPage, pageName } from '../../lib/cli/man/page.ts';
import { type Actions, buildProgram } from '../../lib/cli/program.ts';

const run = promisify(execFile);
const program = buildProgram(new Proxy({}, { get: () => async () => {} }) as Actions, '1.2.3');
// What somebody adds later, with everything that a shell or groff may stumble over.
program
  .command('later')
  .description(".dotted 'quoted' [bracketed] a:b $HOME `x` \\slashed. More of it.")
  .argument('<file>')
  .addOption(new Option('-w, --why <reason>', "it's [why]: \\ or `not`").choices(['a-b', 'c']));
const model = modelOf(program);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-completion-'));
  await writeFile(join(folder, 'script.bash'), bashCompletion(model));
  await writeFile(join(folder, 'script.fish'), fishCompletion(model));
  await writeFile(join(folder, 'script.zsh'), zshCompletion(model));
  await mkdir(join(folder, 'images/my vm'), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function has(program: string): boolean {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    console.log(`skipped: ${program} is not installed here`);
    return false;
  }
}

/** What bash offers for the last word. */
async function bash(...words: readonly string[]): Promise<string[]> {
  const ask = `source script.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rdma_migrate; printf "%s\\n" "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = await run('bash', ['-c', ask, 'bash', 'rdma-migrate', ...words], {
    cwd: folder,
  });
  expect(stderr).toBe('');
  return stdout.split('\n').filter((line) => line !== '');
}

describe('bash', () => {
  it('offers commands, theirs, and options', async () => {
    expect(await bash('')).toEqual(
      expect.arrayContaining(['receive', 'send', 'image', 'later', '--version']),
    );
    expect(await bash('image', 'v')).toEqual(['verify']);
    expect(await bash('send', '--prov')).toEqual(['--provider']);
    expect(await bash('image', 'verify', '--ra')).toEqual(['--ram-file']);
    expect(await bash('later', '-')).toEqual(expect.arrayContaining(['-w', '--why']));
  });

  it('offers values, and nothing where nobody knows them', async () => {
    expect(await bash('send', '--provider', '')).toEqual(['auto', 'verbs', 'iwarp']);
    expect(await bash('--quiet', 'send', '-v', '--commit', 'r')).toEqual(['require']);
    expect(await bash('later', '--why', '')).toEqual(['a-b', 'c']);
    expect(await bash('completion', '')).toEqual(expect.arrayContaining(['bash', 'zsh', 'fish']));
    expect(await bash('send', '--wait', '')).toEqual([]);
  });

  it('offers paths where one is due', async () => {
    expect(await bash('receive', '--image', 'im')).toEqual(['images']);
    expect(await bash('image', 'inspect', 'images/')).toEqual(['images/my vm']);
    expect(await bash('send', 'vm', '--ram-file', 'pc.ram', '=', 'im')).toEqual(['images']);
    expect(await bash('doctor', 'im')).toEqual([]);
  });

  it('takes no value for a command', async () => {
    expect(await bash('send', 'image', 'v')).not.toContain('verify');
  });
});

describe('every command and option', () => {
  it.each([
    ['bash', bashCompletion],
    ['zsh', zshCompletion],
    ['fish', fishCompletion],
  ] as const)('is in the script for %s', (shell, script) => {
    const text = script(model);
    for (const { path, options } of everyCommand(model)) {
      for (const name of path) expect(text).toContain(name);
      for (const flag of options.flatMap(({ flags }) => flags))
        expect(text).toContain(
          shell === 'fish' ? flag.replace(/^--/, '-l ').replace(/^-(?=\w$)/, '-s ') : flag,
        );
    }
  });
});

describe('other shells', () => {
  it('fish offers the same', async () => {
    if (!has('fish')) return;
    const fish = async (line: string): Promise<string> => {
      const ask = `source script.fish; complete -C ${JSON.stringify(line)}`;
      const { stdout, stderr } = await run('fish', ['--no-config', '-c', ask], { cwd: folder });
      expect(stderr).toBe('');
      return stdout;
    };
    expect(await fish('rdma-migrate ')).toMatch(/^later\t.*'quoted'/m);
    expect(await fish('rdma-migrate image v')).toMatch(/^verify\t/m);
    expect(await fish('rdma-migrate send --provider v')).toMatch(/^verbs\t/m);
  });

  it('zsh can read its script', async () => {
    if (!has('zsh')) return;
    expect(await run('zsh', ['-n', 'script.zsh'], { cwd: folder })).toMatchObject({ stderr: '' });
  });
});

describe('a man page', () => {
  const pages = everyCommand(model).map(
    (command) =>
      [pageName(command), manPage(command, model, { version: '1.2.3', date: '2026-01-02' })] as const,
  );

  it('is made of every command', () => {
    const names = pages.map(([name]) => name);
    expect(names).toEqual(
      expect.arrayContaining(['rdma-migrate', 'rdma-migrate-image-verify', 'rdma-migrate-later']),
    );
    const send = pages.find(([name]) => name === 'rdma-migrate-send')?.[1];
    for (const part of [
      '.SH NAME',
      '.SH SYNOPSIS',
      '.SH OPTIONS',
      '\\-\\-wait',
      'Exit codes',
      '.SH SEE ALSO',
    ])
      expect(send).toContain(part);
  });

  it.each([
    ['groff', ['-man', '-ww', '-Tutf8']],
    ['mandoc', ['-T', 'lint', '-W', 'warning']],
  ])('is taken by %s without a warning', async (formatter, options) => {
    if (!has(formatter)) return;
    const paths = pages.map(([name]) => join(folder, `${name}.1`));
    await Promise.all(pages.map(([, text], index) => writeFile(paths[index] as string, text)));
    const { stdout, stderr } = await run(formatter, [...options, ...paths]);
    expect(stderr).toBe('');
    if (formatter === 'groff') expect(stdout).toContain(".dotted 'quoted'");
  });
});

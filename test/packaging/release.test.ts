/** A release of a small repository of its own: what is made, what is changed, and what is refused. Without a network. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordFile, sha256Of, sourcesDigest } from '../../packaging/prebuild/record.ts';
import { ARCHITECTURES } from '../../packaging/prebuild/targets.ts';
import { releaseChangelog } from '../../packaging/release/changelog.ts';
import { release } from '../../packaging/release/release.ts';
import { temporaryFolder } from '../support/temp.ts';

const CHANGELOG = '# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0\n\nThe first.\n';
const PUBLIC = { repository: 'https://example.org/thing', bugs: 'https://example.org/thing/bugs' };
const NOW = new Date('2026-11-22T12:00:00Z');
const TIMEOUT_MS = 120_000;

describe('the changelog', () => {
  it('has what was unreleased under version and date, and room for what comes', () => {
    const { text, notes } = releaseChangelog(CHANGELOG, '0.2.0', '2026-11-22');
    expect(notes).toBe('### Added\n\n- A thing.');
    expect(text).toBe(CHANGELOG.replace('## Unreleased', '## Unreleased\n\n## 0.2.0 - 2026-11-22'));
    expect(() => releaseChangelog(text, '0.3.0', '2026-11-23')).toThrow('nothing stands under Unreleased');
    expect(() => releaseChangelog(text, '0.2.0', '2026-11-23')).toThrow('has 0.2.0 already');
  });

  it('may end with what is unreleased, and must have it', () => {
    expect(releaseChangelog('## Unreleased\n- x', '1.0.0', 'd').text).toBe(
      '## Unreleased\n\n## 1.0.0 - d\n\n- x\n',
    );
    expect(() => releaseChangelog('## Unreleased\n\n### Added\n', '1.0.0', 'd')).toThrow('nothing stands');
    expect(() => releaseChangelog('# Changelog\n', '1.0.0', 'd')).toThrow('no "## Unreleased"');
  });
});

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let checkout: string;

async function put(path: string, content: string | object): Promise<void> {
  await mkdir(dirname(join(checkout, path)), { recursive: true });
  const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2);
  await writeFile(join(checkout, path), text);
}

async function git(...args: string[]): Promise<string> {
  const who = ['-c', 'user.name=A', '-c', 'user.email=a@example.org', '-c', 'core.hooksPath=/dev/null'];
  return (await promisify(execFile)('git', ['-C', checkout, ...who, ...args])).stdout.trim();
}

async function commit(message = 'a change'): Promise<void> {
  await git('add', '.');
  await git('commit', '-m', message);
}

async function prebuild(): Promise<void> {
  for (const arch of ARCHITECTURES) {
    await put(`prebuilds/linux-${arch}/rdma_migrate.node`, `addon for ${arch}`);
    const sha256 = await sha256Of(join(checkout, `prebuilds/linux-${arch}/rdma_migrate.node`));
    const sources = await sourcesDigest(checkout);
    const files = { 'rdma_migrate.node': { sha256, needs: ['GLIBC_2.28'] } };
    await mkdir(dirname(recordFile(checkout, arch)), { recursive: true });
    await writeFile(recordFile(checkout, arch), JSON.stringify({ arch, sources, files }));
  }
}

const made = (options: { version?: string; really?: boolean; folder?: string } = {}): Promise<string> =>
  release({
    checkout,
    version: '0.2.0',
    really: false,
    folder: join(folder.path, 'out'),
    now: NOW,
    ...options,
  });

beforeEach(async () => {
  folder = await temporaryFolder();
  checkout = join(folder.path, 'checkout');
  await mkdir(checkout);
  await git('init', '--quiet', '--initial-branch', 'main');
  await git('config', 'user.name', 'A');
  await git('config', 'user.email', 'a@example.org');
  const manifest = { name: 'thing', version: '0.1.0', license: 'MIT' };
  await put('package.json', {
    ...manifest,
    files: ['dist', 'prebuilds', 'CHANGELOG.md'],
    scripts: {
      'build:ts': 'mkdir -p dist && echo built > dist/index.js',
      man: 'echo $SOURCE_DATE_EPOCH > dist/date',
    },
  });
  await put('package-lock.json', {
    ...manifest,
    lockfileVersion: 3,
    requires: true,
    packages: { '': manifest },
  });
  await put('CHANGELOG.md', CHANGELOG);
  await put('native/addon.cc', 'int main() {}\n');
  await put('.gitignore', 'node_modules/\ndist/\nbuild/\nprebuilds/\n');
  for (const name of ['node-addon-api', 'node-api-headers', 'typescript'])
    await put(`node_modules/${name}/package.json`, { name, version: '1.0.0' });
  await commit('the first');
  await prebuild();
});

afterEach(() => folder[Symbol.asyncDispose]());

/** What the tarball has at this path. */
async function packed(tarball: string, path: string): Promise<string> {
  return (await promisify(execFile)('tar', ['-xzOf', tarball, `package/${path}`])).stdout;
}

it(
  'is made dry in a folder, of what is committed, and changes nothing else',
  async () => {
    const before = [await git('rev-parse', 'HEAD'), await git('status', '--porcelain')];
    await put('prebuilds/linux-x64/stray.so', 'of nobody knows what');
    const tarball = await made();
    expect([await git('rev-parse', 'HEAD'), await git('status', '--porcelain')]).toEqual(before);
    expect(await git('tag')).toBe('');
    expect(await git('worktree', 'list')).not.toContain('\n');
    expect((await readdir(folder.path)).sort()).toEqual(['checkout', 'out']);
    const names = ['NOTES.md', 'thing-0.2.0.cdx.json', 'thing-0.2.0.provenance.json', 'thing-0.2.0.tgz'];
    expect((await readdir(dirname(tarball))).sort()).toEqual([...names, 'SHA256SUMS'].sort());
    const sums = await readFile(join(dirname(tarball), 'SHA256SUMS'), 'utf8');
    for (const name of names) {
      const content = await readFile(join(dirname(tarball), name));
      expect(sums).toContain(`${createHash('sha256').update(content).digest('hex')}  ${name}\n`);
    }
    const manifest = JSON.parse(await packed(tarball, 'package.json'));
    expect([manifest.version, manifest.scripts]).toEqual(['0.2.0', undefined]);
    expect(await packed(tarball, 'CHANGELOG.md')).toContain('## 0.2.0 - 2026-11-22');
    expect(await packed(tarball, 'prebuilds/linux-arm64/rdma_migrate.node')).toBe('addon for arm64');
    expect((await packed(tarball, 'dist/date')).trim()).toBe(await git('log', '-1', '--format=%ct'));
    await expect(packed(tarball, 'prebuilds/linux-x64/stray.so')).rejects.toThrow('Not found');
    const sbom = JSON.parse(await readFile(tarball.replace(/tgz$/, 'cdx.json'), 'utf8'));
    expect([sbom.bomFormat, sbom.metadata.component.version]).toEqual(['CycloneDX', '0.2.0']);
    const provenance = JSON.parse(await readFile(tarball.replace(/tgz$/, 'provenance.json'), 'utf8'));
    expect(provenance).toMatchObject({ base: before[0], signed: false, prebuilds: [{ arch: 'x64' }, {}] });
    expect(provenance.commit).toBeUndefined();
    await expect(made({ really: true })).rejects.toThrow('no repository and no bugs');
  },
  TIMEOUT_MS,
);

it(
  'is committed and tagged with --really, and made of that commit',
  async () => {
    await put('package.json', {
      ...JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8')),
      ...PUBLIC,
    });
    await commit();
    const base = await git('rev-parse', 'HEAD');
    const tarball = await made({ really: true });
    expect(await git('rev-parse', 'HEAD^')).toBe(base);
    expect(await git('rev-parse', 'v0.2.0^{commit}')).toBe(await git('rev-parse', 'main'));
    expect(await git('status', '--porcelain')).toBe('');
    expect((await git('show', '--name-only', '--format=%s', 'HEAD')).split('\n')).toEqual([
      'release: 0.2.0',
      '',
      'CHANGELOG.md',
      'package-lock.json',
      'package.json',
    ]);
    const provenance = JSON.parse(await readFile(tarball.replace(/tgz$/, 'provenance.json'), 'utf8'));
    expect(provenance).toMatchObject({ commit: await git('rev-parse', 'HEAD'), base });
    expect(await packed(tarball, 'CHANGELOG.md')).toBe(
      await readFile(join(checkout, 'CHANGELOG.md'), 'utf8'),
    );
    await expect(made({ folder: join(folder.path, 'other') })).rejects.toThrow('0.2.0 exists: tag v0.2.0');
  },
  TIMEOUT_MS,
);

describe('is refused', () => {
  it('for what is no version', async () => {
    for (const version of ['1.2', 'v1.2.3', '01.2.3', '1.2.3-', '1.2.3+4', '1.2.3; rm', '--really', ''])
      await expect(made({ version })).rejects.toThrow('expected a version');
  });

  it('for a version that the changelog has', () =>
    expect(made({ version: '0.1.0' })).rejects.toThrow('0.1.0 exists: CHANGELOG.md'));

  it('of a tree that is not clean', async () => {
    await put('README.md', 'new');
    await expect(made()).rejects.toThrow(/not clean:\n\?\? README\.md/);
    await commit();
    await put('README.md', 'changed');
    await expect(made()).rejects.toThrow('not clean');
  });

  it('without a prebuilt addon, with another one, and with one of other sources', async () => {
    const addon = 'prebuilds/linux-arm64/rdma_migrate.node';
    await put(addon, 'another');
    await expect(made()).rejects.toThrow(`${addon} is not what was built: npm run build:prebuilds -- arm64`);
    await rm(join(checkout, addon));
    await expect(made()).rejects.toThrow(`${addon} is missing`);
    await prebuild();
    await put('native/addon.cc', 'int main() { return 1; }\n');
    await commit();
    await expect(made()).rejects.toThrow('for x64 was built of other sources');
    await rm(recordFile(checkout, 'x64'));
    await expect(made()).rejects.toThrow('no prebuilt addon for x64');
  });

  it('into a folder that holds something else', async () => {
    await cp(join(checkout, 'native'), join(folder.path, 'out'), { recursive: true });
    await expect(made()).rejects.toThrow('no release that could be replaced');
  });

  it('when a step fails, and leaves nothing behind', async () => {
    const manifest = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
    manifest.scripts.man = 'echo no page >&2; exit 3';
    await put('package.json', { ...manifest, ...PUBLIC });
    await commit();
    const head = await git('rev-parse', 'HEAD');
    await expect(made({ really: true })).rejects.toThrow('no page');
    expect([await git('rev-parse', 'HEAD'), await git('tag')]).toEqual([head, '']);
    expect(await git('worktree', 'list')).not.toContain('\n');
    expect(await readdir(folder.path)).toEqual(['checkout']);
  });
});

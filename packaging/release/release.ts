/**
 * Makes a release in a folder: tarball, SBOM, provenance note, what has changed, and the checksums of all these. Dry, it changes nothing else;
 * otherwise version and changelog are committed and tagged, once everything has been made of that very commit.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { npmPack, stage } from '../pack/stage.ts';
import { type PrebuildRecord, sha256Of } from '../prebuild/record.ts';
import { ARCHITECTURES } from '../prebuild/targets.ts';
import { runTool } from '../support/run.ts';
import { releaseChangelog } from './changelog.ts';
import { type Provenance, toolsOf } from './provenance.ts';
import {
  checkClean,
  checkNew,
  checkPublic,
  checkReplaceable,
  checkVersion,
  prebuildRecords,
} from './refusals.ts';
import { Worktree } from './worktree.ts';

export interface ReleaseOptions {
  readonly checkout: string;
  readonly version: string;
  /** Where the release is put: a folder that is not there yet, or has an earlier release, which is replaced. */
  readonly folder: string;
  /** Commits and tags. */
  readonly really: boolean;
  readonly now: Date;
}

const SUMS = 'SHA256SUMS';
const EDITED = ['package.json', 'package-lock.json', 'CHANGELOG.md'];

/** @returns the tarball's path. @throws Error with what is wrong; the folder is as it was then, and so is the checkout */
export async function release(options: ReleaseOptions): Promise<string> {
  const { checkout, version, folder, really } = options;
  checkVersion(version);
  await checkReplaceable(folder, checkout);
  await checkClean(checkout);
  await checkNew(checkout, version);
  if (really) await checkPublic(checkout);
  const records = await prebuildRecords(checkout);
  await using tree = await Worktree.make(checkout);
  const base = await tree.git('rev-parse', 'HEAD');
  const notes = await edit(tree, options);
  if (really) await tree.git('commit', '--quiet', '-m', `release: ${version}`, '--', ...EDITED);
  await tree.install();
  await mkdir(dirname(folder), { recursive: true });
  const making = await mkdtemp(`${folder}.`);
  await chmod(making, 0o755);
  try {
    const tarball = await make(tree, options, making, records, base);
    await writeFile(join(making, 'NOTES.md'), `${notes}\n`);
    await writeSums(making, [tarball, ...beside(tarball), 'NOTES.md']);
    await replace(folder, making, async () => {
      if (really) await tag(tree, checkout, version, base);
    });
    return join(folder, tarball);
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

/** Puts what was made in the folder's place, and back again if the last step fails. */
async function replace(folder: string, made: string, last: () => Promise<void>): Promise<void> {
  const old = `${made}.old`;
  if (existsSync(folder)) await rename(folder, old);
  try {
    await rename(made, folder);
    await last();
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (existsSync(old)) await rename(old, folder);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

/** Version and changelog, in the tree. @returns what has changed */
async function edit(tree: Worktree, { version, now }: ReleaseOptions): Promise<string> {
  const path = join(tree.folder, 'CHANGELOG.md');
  const changelog = releaseChangelog(await readFile(path, 'utf8'), version, now.toISOString().slice(0, 10));
  await writeFile(path, changelog.text);
  await tree.npm(['version', version, '--no-git-tag-version', '--allow-same-version', '--ignore-scripts']);
  return changelog.notes;
}

const beside = (tarball: string): string[] =>
  ['cdx.json', 'provenance.json'].map((kind) => tarball.replace(/tgz$/, kind));

async function make(
  tree: Worktree,
  { checkout, version, really }: ReleaseOptions,
  destination: string,
  records: readonly PrebuildRecord[],
  base: string,
): Promise<string> {
  const sourceDateEpoch = Number(await tree.git('log', '-1', '--format=%ct'));
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(sourceDateEpoch) };
  await tree.npm(['run', '--silent', 'build:ts'], env);
  await tree.npm(['run', '--silent', 'man'], env);
  for (const record of records) await copyAddon(checkout, tree.folder, record);
  const staged = join(tree.folder, 'build/staged');
  await stage(tree.folder, staged, ['dist', ...ARCHITECTURES.map((arch) => `prebuilds/linux-${arch}`)]);
  const { filename } = await npmPack(staged, destination);
  const [sbomFile, provenanceFile] = beside(filename) as [string, string];
  const sbom = ['sbom', '--omit', 'dev', '--sbom-format', 'cyclonedx', '--package-lock-only'];
  await writeFile(join(destination, sbomFile), await tree.npm(sbom));
  const { name } = JSON.parse(await readFile(join(tree.folder, 'package.json'), 'utf8')) as { name: string };
  const provenance: Provenance = {
    name,
    version,
    ...(really && { commit: await tree.git('rev-parse', 'HEAD') }),
    base,
    sourceDateEpoch,
    signed: false,
    tools: await toolsOf(tree.folder),
    prebuilds: records,
  };
  await writeFile(join(destination, provenanceFile), `${JSON.stringify(provenance, null, 2)}\n`);
  return filename;
}

/** What has been checked, and nothing that lies beside it. */
async function copyAddon(from: string, to: string, { arch, files }: PrebuildRecord): Promise<void> {
  const path = join('prebuilds', `linux-${arch}`);
  for (const [name, { sha256 }] of Object.entries(files)) {
    await cp(join(from, path, name), join(to, path, name));
    // Somebody may have built another one since.
    if ((await sha256Of(join(to, path, name))) !== sha256)
      throw new Error(`${join(path, name)} has changed meanwhile`);
  }
}

async function writeSums(folder: string, names: readonly string[]): Promise<void> {
  const lines = await Promise.all(
    names.map(async (name) => `${await sha256Of(join(folder, name))}  ${name}\n`),
  );
  await writeFile(join(folder, SUMS), lines.join(''));
}

/** The branch goes on to the tagged commit, unless somebody has changed it or the tree meanwhile. */
async function tag(tree: Worktree, checkout: string, version: string, base: string): Promise<void> {
  const commit = await tree.git('rev-parse', 'HEAD');
  const git = (...args: string[]): Promise<string> => runTool('git', '-C', checkout, ...args);
  if ((await git('rev-parse', 'HEAD')).trim() !== base)
    throw new Error('the branch has gone on meanwhile: nothing was committed or tagged');
  await checkClean(checkout);
  await git('tag', '-a', `v${version}`, '-m', `rdma-migrate ${version}`, commit);
  try {
    await git('merge', '--quiet', '--ff-only', commit);
  } catch (error) {
    await git('tag', '-d', `v${version}`);
    throw error;
  }
}

/** What keeps a release from being made. Everything is looked at before anything is done. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type PrebuildRecord, recordFile, sha256Of, sourcesDigest } from '../prebuild/record.ts';
import { ARCHITECTURES, type Architecture } from '../prebuild/targets.ts';
import { runTool } from '../support/run.ts';
import { versionsOf } from './changelog.ts';

/** Of https://semver.org, without build metadata: npm drops that. */
const VERSION =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(?:0|[1-9]\d*|\d*[a-zA-Z-][\da-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][\da-zA-Z-]*))*)?$/;

export function checkVersion(version: string): void {
  if (!VERSION.test(version)) throw new Error(`expected a version such as 1.2.3 but received ${version}`);
}

/** @throws Error if the folder is there and has anything but an earlier release of this package: it would be removed */
export async function checkReplaceable(folder: string, checkout: string): Promise<void> {
  if (!existsSync(folder)) return;
  const { name } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8')) as { name: string };
  const known = [/\.tgz$/, /\.cdx\.json$/, /\.provenance\.json$/, /^NOTES\.md$/, /^SHA256SUMS$/];
  const names = await readdir(folder);
  const provenance = names.find((file) => file.startsWith(`${name}-`) && file.endsWith('.provenance.json'));
  if (provenance === undefined || names.some((file) => !known.some((pattern) => pattern.test(file))))
    throw new Error(`${folder} exists, and is no release that could be replaced`);
}

const git = async (checkout: string, ...args: readonly string[]): Promise<string> =>
  (await runTool('git', '-C', checkout, ...args)).trim();

/** @throws Error if files are changed, or not known to git: they would not be in the release, or nobody could make it again */
export async function checkClean(checkout: string): Promise<void> {
  const status = await git(checkout, 'status', '--porcelain');
  if (status !== '') throw new Error(`the tree is not clean:\n${status}`);
}

/** @throws Error if the version has a tag or stands in the changelog */
export async function checkNew(checkout: string, version: string): Promise<void> {
  const tag = await git(checkout, 'tag', '--list', `v${version}`);
  if (tag !== '') throw new Error(`${version} exists: tag ${tag}`);
  const changelog = await readFile(join(checkout, 'CHANGELOG.md'), 'utf8');
  if (versionsOf(changelog).includes(version))
    throw new Error(`${version} exists: CHANGELOG.md has a section of it`);
}

/** What a release that others get has to have: where it comes from. */
export async function checkPublic(checkout: string): Promise<void> {
  const manifest = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
  const missing = ['repository', 'bugs'].filter((name) => !manifest[name]);
  if (missing.length > 0)
    throw new Error(
      `package.json has no ${missing.join(' and no ')}: --really makes what others get, and they have to know where it comes from`,
    );
  const branch = await git(checkout, 'branch', '--show-current');
  if (branch === '') throw new Error('HEAD is detached: --really commits to a branch');
}

/** @throws Error if an architecture's addon is missing, was built of other sources, or is not what was built */
export async function prebuildRecords(checkout: string): Promise<PrebuildRecord[]> {
  const sources = await sourcesDigest(checkout);
  const records: PrebuildRecord[] = [];
  for (const arch of ARCHITECTURES) records.push(await checkedRecord(checkout, arch, sources));
  return records;
}

async function checkedRecord(checkout: string, arch: Architecture, sources: string): Promise<PrebuildRecord> {
  const again = `npm run build:prebuilds -- ${arch}`;
  const file = recordFile(checkout, arch);
  if (!existsSync(file)) throw new Error(`there is no prebuilt addon for ${arch}: ${again}`);
  const record = JSON.parse(await readFile(file, 'utf8')) as PrebuildRecord;
  if (record.sources !== sources)
    throw new Error(`the prebuilt addon for ${arch} was built of other sources: ${again}`);
  for (const [name, { sha256 }] of Object.entries(record.files)) {
    const path = join('prebuilds', `linux-${arch}`, name);
    if (!existsSync(join(checkout, path))) throw new Error(`${path} is missing: ${again}`);
    if ((await sha256Of(join(checkout, path))) !== sha256)
      throw new Error(`${path} is not what was built: ${again}`);
  }
  return record;
}

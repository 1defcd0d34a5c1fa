/**
 * What a prebuilt addon was made of, written beside its build: a release tells it, and refuses addons that are not those of its sources.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool, systemName } from '../support/run.ts';
import type { Architecture, Target } from './targets.ts';
import { GLIBC_FLOOR } from './targets.ts';

/** What is compiled, and what says how. */
const SOURCES = ['native', 'cmake', 'CMakeLists.txt', 'packaging/prebuild'];
/** Packages whose headers are compiled in. */
const HEADERS = ['node-addon-api', 'node-api-headers'];

/** Of one architecture. */
export interface PrebuildRecord {
  readonly arch: Architecture;
  /** SHA-256 over every source; {@link sourcesDigest}. */
  readonly sources: string;
  /** First line of `--version`. */
  readonly compiler: string;
  readonly cmake: string;
  /** The oldest that it loads with. */
  readonly glibc: string;
  /** PRETTY_NAME of /etc/os-release, where it was built. */
  readonly system: string;
  /** Of each package whose headers are compiled in, the version. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of each file its SHA-256, and the newest version that it needs of each library. */
  readonly files: Readonly<Record<string, { readonly sha256: string; readonly needs: readonly string[] }>>;
}

export const recordFile = (checkout: string, arch: Architecture): string =>
  join(checkout, 'build', `prebuild-${arch}`, 'record.json');

export async function sha256Of(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

/** SHA-256 over path and content of everything that is compiled, as it is in the folder now, and the versions of its headers. */
export async function sourcesDigest(checkout: string): Promise<string> {
  const listed = await runTool('git', '-C', checkout, 'ls-files', '-z', '--', ...SOURCES);
  const hash = createHash('sha256');
  for (const path of listed.split('\0').filter((name) => name !== ''))
    hash.update(`${path} ${await sha256Of(join(checkout, path))}\n`);
  hash.update(JSON.stringify(await headerVersions(checkout)));
  return hash.digest('hex');
}

async function headerVersions(checkout: string): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  for (const name of HEADERS) {
    const manifest = await readFile(join(checkout, 'node_modules', name, 'package.json'), 'utf8');
    versions[name] = (JSON.parse(manifest) as { version: string }).version;
  }
  return versions;
}

/** `sources`: as they were before the compiler ran. */
export async function recordOf(
  checkout: string,
  { arch, prefix }: Target,
  sources: string,
  files: PrebuildRecord['files'],
): Promise<PrebuildRecord> {
  const firstLine = async (tool: string): Promise<string> =>
    (await runTool(tool, '--version')).split('\n', 1)[0] as string;
  return {
    arch,
    sources,
    compiler: await firstLine(`${prefix}g++`),
    cmake: await firstLine('cmake'),
    glibc: `${GLIBC_FLOOR.join('.')} or later`,
    system: await systemName(),
    headers: await headerVersions(checkout),
    files,
  };
}

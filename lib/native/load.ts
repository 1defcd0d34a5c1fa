/** Finds the native addon and loads it. Which file it is, and what was looked for, is in the error and in doctor. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { MigrationError } from '../errors.ts';
import type { NativeDevices } from './devices.ts';

/** A place where the addon may be. */
export interface AddonFile {
  /** Absolute. */
  readonly path: string;
  /** For people. */
  readonly kind: 'local build' | 'prebuilt';
}

/** The folder of package.json, as seen from lib/native/ and dist/native/ alike. */
export const PACKAGE_FOLDER = fileURLToPath(new URL('../../', import.meta.url));

/** Where the addon is looked for, in this order: whoever has built one means to use it. The first that exists is taken. */
export function addonFiles(folder = PACKAGE_FOLDER, { platform, arch } = process): readonly AddonFile[] {
  return [
    { path: `${folder}build/Release/rdma_migrate.node`, kind: 'local build' },
    { path: `${folder}prebuilds/${platform}-${arch}/rdma_migrate.node`, kind: 'prebuilt' },
  ];
}

export function findAddon(files = addonFiles()): AddonFile | undefined {
  return files.find(({ path }) => existsSync(path));
}

/** How the addon is built from its source in this folder: a package that npm has installed has no development dependencies. */
export function buildCommand(folder = PACKAGE_FOLDER, hasGlibc = glibcVersion() !== undefined): string {
  const build = folder.includes('/node_modules/')
    ? 'npm install --no-save cmake-js@8 node-addon-api@8 && npx cmake-js rebuild -d node_modules/rdma-migrate'
    : 'npm run build:native';
  const tools = hasGlibc ? 'apt-get install build-essential cmake' : 'apk add build-base cmake linux-headers';
  return `${tools}, then ${build}`;
}

/** Of this process; undefined: its C library is another one, such as musl. */
export function glibcVersion(): string | undefined {
  const report: NodeJS.ProcessReport & { excludeNetwork?: boolean } = process.report;
  const before = report.excludeNetwork ?? false;
  // Else it looks up the names of all that this process is connected to, and waits for each.
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
    return header.glibcVersionRuntime;
  } finally {
    report.excludeNetwork = before;
  }
}

/** What a prebuilt addon needs and this process has. */
export const prebuiltNeeds = (glibc: string | undefined): string =>
  glibc === undefined
    ? 'It needs glibc 2.28 or later, and this Node runs on another C library (musl, as of Alpine): build it'
    : `It needs glibc 2.28 or later, and here is ${glibc}; build it`;

/**
 * Loads the addon.
 * @throws MigrationError PROVIDER_UNAVAILABLE, with the files that were looked for, or the file and why it does not load
 */
export function loadAddon(folder = PACKAGE_FOLDER): unknown {
  const files = addonFiles(folder);
  const file = findAddon(files);
  if (file === undefined) {
    const looked = files.map(({ path, kind }) => `${path} (${kind})`).join(' and ');
    throw unavailable(`not found: there is neither of ${looked}. Build it: ${buildCommand(folder)}`);
  }
  try {
    const addon = createRequire(import.meta.url)(file.path) as Pick<NativeDevices, 'setBuildCommand'>;
    // A prebuilt addon that loads has its glibc. Asking costs milliseconds.
    addon.setBuildCommand(buildCommand(folder, file.kind === 'prebuilt' || glibcVersion() !== undefined));
    return addon;
  } catch (cause) {
    throw unavailable(doesNotLoad(file, cause, folder), cause);
  }
}

function doesNotLoad({ path, kind }: AddonFile, cause: unknown, folder: string): string {
  const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n', 1);
  const why =
    kind === 'prebuilt'
      ? prebuiltNeeds(glibcVersion())
      : 'It was built for another machine or Node; build it again, or remove the folder build to use the prebuilt one';
  return `found as ${path} (${kind}) and does not load: ${reason}. ${why}: ${buildCommand(folder)}`;
}

function unavailable(what: string, cause?: unknown): MigrationError {
  const message = `the native addon of rdma-migrate was ${what}`;
  return new MigrationError('PROVIDER_UNAVAILABLE', 'configure', message, { cause });
}

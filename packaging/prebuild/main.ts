/**
 * `npm run build:prebuilds [-- x64 arm64]`: the addon and the verbs provider for machines without a compiler, in `prebuilds/`. It is built
 * with this machine's compiler against an old glibc's symbols and checked; the other architecture is cross-compiled.
 */
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { CHECKOUT, endWith, run, runTool } from '../support/run.ts';
import { checkShared } from './check.ts';
import { makeFloor } from './floor.ts';
import { type PrebuildRecord, recordFile, recordOf, sha256Of, sourcesDigest } from './record.ts';
import { ARCHITECTURES, type Target, targetOf } from './targets.ts';

const FILES = ['rdma_migrate.node', 'rdma_migrate_verbs.so'];

async function build(target: Target): Promise<void> {
  const folder = join(CHECKOUT, 'build', `prebuild-${target.arch}`);
  const floor = join(folder, 'floor');
  const sources = await sourcesDigest(CHECKOUT);
  await rm(recordFile(CHECKOUT, target.arch), { force: true });
  await rm(floor, { recursive: true, force: true });
  await makeFloor(target, floor);
  const options = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_SYSTEM_NAME: 'Linux',
    CMAKE_SYSTEM_PROCESSOR: target.processor,
    CMAKE_CXX_COMPILER: `${target.prefix}g++`,
    CMAKE_JS_INC: join(CHECKOUT, 'node_modules/node-api-headers/include'),
    CMAKE_LIBRARY_OUTPUT_DIRECTORY: join(folder, 'Release'),
    RDMA_CORE_INCLUDE: join(floor, 'include'),
    RDMACM_LIBRARY: join(floor, 'librdmacm.so'),
    IBVERBS_LIBRARY: join(floor, 'libibverbs.so'),
    RDMA_MIGRATE_FLOOR: floor,
    RDMA_MIGRATE_TESTS: 'OFF',
  };
  const defined = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
  await run('cmake', ['-S', CHECKOUT, '-B', folder, '-G', 'Ninja', '--log-level=WARNING', ...defined]);
  await run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  const record = await recordOf(CHECKOUT, target, sources, await keep(target, join(folder, 'Release')));
  await writeFile(recordFile(CHECKOUT, target.arch), JSON.stringify(record, null, 2));
}

/** Checks what was built and puts it where it is packed. */
async function keep(target: Target, built: string): Promise<PrebuildRecord['files']> {
  const kept = join(CHECKOUT, 'prebuilds', `linux-${target.arch}`);
  await rm(kept, { recursive: true, force: true });
  await mkdir(kept, { recursive: true });
  const files: Record<string, PrebuildRecord['files'][string]> = {};
  for (const name of FILES) {
    const needs = await checkShared(join(built, name), target);
    await copyFile(join(built, name), join(kept, name));
    files[name] = { sha256: await sha256Of(join(kept, name)), needs };
    console.log(`prebuilds/linux-${target.arch}/${name}: ${needs.join(', ')}`);
  }
  return files;
}

async function main(names: readonly string[]): Promise<void> {
  for (const target of (names.length > 0 ? names : ARCHITECTURES).map(targetOf)) {
    await runTool(`${target.prefix}g++`, '--version').catch((cause) => {
      throw new Error(`no compiler for ${target.arch}: apt-get install ${target.packages}`, { cause });
    });
    await build(target);
  }
}

await main(process.argv.slice(2)).catch(endWith);

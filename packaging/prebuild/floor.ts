/**
 * Libraries to link with that have only what an old glibc has, so that what is linked loads wherever that glibc or a later one is: of
 * each function the newest version that is old enough. They have names and versions and no code; at run time the machine's own are taken.
 */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '../support/run.ts';
import { compareVersions, type DynamicSymbol, glibcVersion, symbolsOf } from './symbols.ts';
import { GLIBC_FLOOR, type Target } from './targets.ts';

/** Those of glibc that a library in C++ needs. */
const GLIBC = ['libc.so.6', 'libm.so.6'];
/** Of rdma-core: names and versions are the same on every machine, so that of the machine that builds will do. */
const RDMA_CORE = ['librdmacm.so.1', 'libibverbs.so.1'];
const HOST_LIBRARIES = '/usr/lib/x86_64-linux-gnu';

/** Makes the libraries in a new folder, beside the headers of rdma-core in `include`. */
export async function makeFloor(target: Target, folder: string): Promise<void> {
  await mkdir(join(folder, 'include'), { recursive: true });
  for (const soname of [...GLIBC, target.loader]) {
    const symbols = await symbolsOf(join(target.libraries, soname), target.prefix);
    await makeLibrary(target, folder, soname, oldEnough(symbols));
  }
  for (const soname of RDMA_CORE) {
    const symbols = await symbolsOf(join(HOST_LIBRARIES, soname), '');
    const current = symbols.filter((symbol) => isOffered(symbol) && symbol.current);
    await makeLibrary(target, folder, soname, current);
  }
  // Before 2.34 these were libraries of their own. They still exist, so whoever names them gets the functions from either.
  for (const soname of ['libpthread.so.0', 'libdl.so.2']) await makeLibrary(target, folder, soname, []);
  const [libc, loader] = ['libc.so.6', target.loader].map((soname) => join(folder, soname));
  const nonshared = join(target.libraries, 'libc_nonshared.a');
  const group = `GROUP ( ${libc} ${nonshared} AS_NEEDED ( ${loader} ) )\n`;
  await writeFile(join(folder, 'libc.so'), group);
  for (const name of ['libm.so.6', ...RDMA_CORE])
    await symlink(name, join(folder, name.replace(/\.so.*/, '.so')));
  for (const name of ['infiniband', 'rdma'])
    await symlink(join('/usr/include', name), join(folder, 'include', name));
}

const isOffered = ({ undefined: needed, version }: DynamicSymbol): boolean => !needed && version !== '';

/** Of each symbol the newest version that is not newer than the floor. */
export function oldEnough(symbols: readonly DynamicSymbol[]): DynamicSymbol[] {
  const chosen = new Map<string, { symbol: DynamicSymbol; version: readonly number[] }>();
  for (const symbol of symbols) {
    const version = glibcVersion(symbol.version);
    if (!isOffered(symbol) || version === undefined || compareVersions(version, GLIBC_FLOOR) > 0) continue;
    const known = chosen.get(symbol.name);
    if (known && compareVersions(known.version, version) >= 0) continue;
    chosen.set(symbol.name, { symbol, version });
  }
  return [...chosen.values()].map(({ symbol }) => symbol);
}

async function makeLibrary(
  { prefix }: Target,
  folder: string,
  soname: string,
  symbols: readonly DynamicSymbol[],
): Promise<void> {
  const versions = [...new Set(symbols.map(({ version }) => version))];
  const source = join(folder, `${soname}.s`);
  const script = join(folder, `${soname}.map`);
  // A symbol that is named by its version must not have that name itself.
  const lines = symbols.flatMap(({ name, version, kind }, index) => [
    `.globl stub_${index}`,
    `.type stub_${index}, ${kind === 'object' ? 'STT_OBJECT' : 'STT_FUNC'}`,
    `stub_${index}: .skip 8`,
    `.size stub_${index}, 8`,
    `.symver stub_${index}, ${name}@@${version}, remove`,
  ]);
  await writeFile(source, `${['.data', ...lines].join('\n')}\n`);
  await writeFile(script, versions.map((version) => `${version} {};\n`).join(''));
  const options = ['-shared', '-nostdlib', `-Wl,-soname,${soname}`];
  if (versions.length > 0) options.push(`-Wl,--version-script,${script}`);
  await runTool(`${prefix}gcc`, ...options, source, '-o', join(folder, soname));
}

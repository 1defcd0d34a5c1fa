/** Whether a prebuilt shared object loads on every machine that it is for, as far as its dynamic symbols tell. */
import { runTool } from '../support/run.ts';
import { compareVersions, type DynamicSymbol, glibcVersion, symbolsOf } from './symbols.ts';
import { GLIBC_FLOOR, type Target } from './targets.ts';

/** Beside rdma-core's, those that Node itself needs. */
const LIBRARIES = /^(lib(c|m|gcc_s|pthread|dl|rdmacm|ibverbs)\.so\.\d+|ld-linux-(x86-64|aarch64)\.so\.\d)$/;
/** What Node has, at every version of Node that has this version of Node-API. */
const NODE_API = /^napi_\w+$/;

/** What is wrong with it, a line each. */
export function problemsOf(symbols: readonly DynamicSymbol[], libraries: readonly string[]): string[] {
  const needed = symbols.filter(({ undefined: needed }) => needed);
  return [
    ...libraries.filter((name) => !LIBRARIES.test(name)).map((name) => `needs ${name}`),
    ...needed.flatMap(({ name, version, weak }) => {
      if (version === '') return weak || NODE_API.test(name) ? [] : [`needs ${name}, which nobody promises`];
      const glibc = glibcVersion(version);
      const tooNew = glibc !== undefined && compareVersions(glibc, GLIBC_FLOOR) > 0;
      return tooNew || version === 'GLIBC_PRIVATE' ? [`needs ${name} of ${version}`] : [];
    }),
    ...symbols
      .filter((symbol) => !symbol.undefined && /^_Z/.test(symbol.name))
      .map(({ name }) => `shows ${name} to other libraries`),
  ];
}

/** Folders of the machine that built it. */
export function pathsOf(headers: string): string[] {
  const found = headers.matchAll(/^\s+(R(?:UN)?PATH)\s+(\S+)$/gm);
  return [...found].map(([, kind, path]) => `looks for libraries in ${path} (${kind})`);
}

/** @returns the newest version of each library that it needs, such as `GLIBC_2.28` */
export async function checkShared(file: string, { prefix }: Target): Promise<string[]> {
  const symbols = await symbolsOf(file, prefix);
  const headers = await runTool(`${prefix}objdump`, '-p', file);
  const libraries = [...headers.matchAll(/^\s+NEEDED\s+(\S+)$/gm)].map(([, name]) => name as string);
  const problems = [...problemsOf(symbols, libraries), ...pathsOf(headers)];
  if (problems.length > 0) throw new Error(`${file}:\n${problems.join('\n')}`);
  return newest(symbols);
}

function newest(symbols: readonly DynamicSymbol[]): string[] {
  const versions = new Map<string, { text: string; numbers: readonly number[] }>();
  for (const { version, undefined: needed } of symbols) {
    const [, library, digits] = /^(\w+?)_(\d[\d.]*)$/.exec(version) ?? [];
    if (!needed || library === undefined || digits === undefined) continue;
    const numbers = digits.split('.').map(Number);
    const known = versions.get(library);
    if (!known || compareVersions(known.numbers, numbers) < 0)
      versions.set(library, { text: version, numbers });
  }
  return [...versions.values()].map(({ text }) => text).sort();
}

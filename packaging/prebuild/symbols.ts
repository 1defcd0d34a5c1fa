/** The dynamic symbols of shared objects, as objdump -T prints them. */
import { runTool } from '../support/run.ts';

export interface DynamicSymbol {
  readonly name: string;
  /** Such as `GLIBC_2.34`; empty: none. */
  readonly version: string;
  /** What a program that is linked now gets, of several versions. */
  readonly current: boolean;
  /** Needed from elsewhere. */
  readonly undefined: boolean;
  readonly kind: 'function' | 'object';
  /** Missing at run time is allowed. */
  readonly weak: boolean;
}

const LINE = /^[0-9a-f]+ (.{7})\s+(\S+)\s+[0-9a-f]+\s+(?:(\(?[\w.]+)\)?\s+)?(?:\.hidden )?(\S+)$/;

export function parseSymbols(text: string): DynamicSymbol[] {
  return text.split('\n').flatMap((line) => {
    const [, flags = '', section = '', version = '', name = ''] = LINE.exec(line) ?? [];
    // Versions themselves are listed too, as absolute symbols.
    if (name === '' || section === '*ABS*') return [];
    return [
      {
        name,
        version: version.replace('(', '').replace(/^Base$/, ''),
        current: !version.startsWith('('),
        undefined: section === '*UND*',
        kind: flags.includes('O') ? 'object' : 'function',
        weak: flags.includes('w'),
      } as const,
    ];
  });
}

export async function symbolsOf(file: string, prefix: string): Promise<DynamicSymbol[]> {
  return parseSymbols(await runTool(`${prefix}objdump`, '-T', file));
}

/** The numbers of `GLIBC_2.2.5`; undefined: a version of another kind, such as GLIBC_PRIVATE. */
export function glibcVersion(version: string): readonly number[] | undefined {
  const [, numbers] = /^GLIBC_(\d+(?:\.\d+)*)$/.exec(version) ?? [];
  return numbers?.split('.').map(Number);
}

export function compareVersions(one: readonly number[], other: readonly number[]): number {
  for (let index = 0; index < Math.max(one.length, other.length); index += 1) {
    const difference = (one[index] ?? 0) - (other[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

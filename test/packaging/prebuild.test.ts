/** What a prebuilt addon may need, on dynamic symbols as objdump prints them. */
import { describe, expect, it } from 'vitest';
import { pathsOf, problemsOf } from '../../packaging/prebuild/check.ts';
import { oldEnough } from '../../packaging/prebuild/floor.ts';
import { parseSymbols } from '../../packaging/prebuild/symbols.ts';

const LIBC = `
DYNAMIC SYMBOL TABLE:
0000000000089380 g    DF .text	0000000000000eed (GLIBC_2.2.5) dlsym
00000000000855b0 g    DF .text	00000000000000b9  GLIBC_2.34  dlsym
00000000000f7800  w   DF .text	0000000000000034  GLIBC_2.33  fstat64
0000000000000000 g    DO *ABS*	0000000000000000  GLIBC_2.2.5 GLIBC_2.2.5
00000000001d2aa8 g    DO .data	0000000000000008  GLIBC_2.2.5 stderr
0000000000109580 g    DF .text	000000000000004c  GLIBC_2.2.5 memcpy
0000000000109580 g    DF .text	000000000000004c  GLIBC_2.14  memcpy
0000000000000000      DF *UND*	0000000000000000 (GLIBC_2.2.5) __tls_get_addr
`;
const needs = (version: string, name: string, flags = '     DF'): string =>
  `0000000000000000 ${flags} *UND*\t0000000000000000 ${version} ${name}`;
const problems = (line: string, libraries: string[] = []): string[] =>
  problemsOf(parseSymbols(line), libraries);

describe('libraries to link with', () => {
  it('offer the newest version that the floor has, and nothing that it has not', () => {
    const offered = oldEnough(parseSymbols(LIBC)).map(({ name, version, kind }) => [name, version, kind]);
    expect(offered).toEqual([
      ['dlsym', 'GLIBC_2.2.5', 'function'],
      ['stderr', 'GLIBC_2.2.5', 'object'],
      ['memcpy', 'GLIBC_2.14', 'function'],
    ]);
  });
});

describe('a prebuilt shared object', () => {
  it('may need old functions, Node-API and the libraries of Node and rdma-core', () => {
    const libraries = ['libc.so.6', 'libgcc_s.so.1', 'ld-linux-aarch64.so.1', 'librdmacm.so.1'];
    expect(problems(needs('(GLIBC_2.28)', 'fcntl64'), libraries)).toEqual([]);
    expect(problems(needs('Base       ', 'napi_throw'))).toEqual([]);
    expect(problems(needs('Base       ', '_ITM_RU1', ' w   D '))).toEqual([]);
  });

  it('may not need newer ones', () => {
    expect(problems(needs('(GLIBC_2.34)', 'dlsym'))).toEqual(['needs dlsym of GLIBC_2.34']);
    expect(problems(needs('(GLIBC_2.28.1)', 'x'))).toEqual(['needs x of GLIBC_2.28.1']);
    expect(problems(needs('(GLIBC_PRIVATE)', 'y'))).toEqual(['needs y of GLIBC_PRIVATE']);
  });

  it('may not look for libraries where it was built', () => {
    const headers = '  NEEDED               libc.so.6\n  RUNPATH              /home/me/build/floor\n';
    expect(pathsOf(headers)).toEqual(['looks for libraries in /home/me/build/floor (RUNPATH)']);
  });

  it('may not need what no library promises, nor other libraries, nor show C++ of its own', () => {
    expect(problems(needs('Base       ', 'arc4random'))).toEqual(['needs arc4random, which nobody promises']);
    expect(problems('', ['libstdc++.so.6'])).toEqual(['needs libstdc++.so.6']);
    expect(
      problems('0000000000012345  w   DF .text\t0000000000000010  Base        _ZNSt6threadD1Ev'),
    ).toEqual(['shows _ZNSt6threadD1Ev to other libraries']);
  });
});

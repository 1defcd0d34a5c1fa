import { describe, expect, it } from 'vitest';
import {
  collectIgnored,
  collectPath,
  parseCount,
  parseMilliseconds,
  parseSeconds,
  parseSecondsOrOff,
  parseSize,
} from '../../lib/cli/arguments.ts';

describe('parseSize', () => {
  it.each([
    ['0', 0n],
    ['4096', 4096n],
    ['4096b', 4096n],
    ['1K', 1024n],
    ['500M', 500n << 20n],
    ['500m', 500n << 20n],
    ['1.5G', 3n << 29n],
    ['0.1K', 102n],
    ['2T', 2n << 40n],
    ['1P', 1n << 50n],
    ['15E', 15n << 60n],
    ['18446744073709551615', (1n << 64n) - 1n],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    'M',
    '-1',
    '+1',
    '1.5',
    '1.5B',
    '.5M',
    '5.M',
    '5X',
    '5MB',
    '5MiB',
    '5 M',
    ' 5',
    '0x10',
    '1e6',
    '1,5G',
    '16E',
    '18446744073709551616',
    '9'.repeat(1000),
  ])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow(/./);
  });
});

describe('parseCount', () => {
  it('takes whole numbers', () => {
    expect([parseCount('0'), parseCount('16')]).toEqual([0, 16]);
  });

  it.each(['', '-1', '1.5', '0x10', '1e3', '1234567890'])('refuses %j', (text) => {
    expect(() => parseCount(text)).toThrow(/whole number/);
  });
});

it('parseSecondsOrOff takes what parseSeconds does, and none', () => {
  expect(['off', 'OFF', '0', '30', '500ms'].map(parseSecondsOrOff)).toEqual([0, 0, 0, 30_000, 500]);
  expect(() => parseSecondsOrOff('on')).toThrow(/seconds, or a time such as/);
});

describe('parseSeconds', () => {
  it('gives milliseconds', () => {
    expect([parseSeconds('30'), parseSeconds('0.5'), parseSeconds('0.001')]).toEqual([30_000, 500, 1]);
  });

  it.each([
    ['300ms', 300],
    ['2s', 2_000],
    ['1.5S', 1_500],
    ['5m', 300_000],
    ['0.5h', 1_800_000],
    ['2147483647ms', 2 ** 31 - 1],
  ])('takes %s', (text, milliseconds) => {
    expect([parseSeconds(text), parseMilliseconds(text)]).toEqual([milliseconds, milliseconds]);
  });

  it('is of seconds or milliseconds where no unit is said', () => {
    expect([parseSeconds('300'), parseMilliseconds('300'), parseMilliseconds('0.6')]).toEqual([
      300_000, 300, 1,
    ]);
  });

  it.each([
    ...['', '0', '0.0001', '-1', '1 s', '1d', '1sec', 's', '.5s', '5.s', '1e3', '0ms', 'Infinity'],
    ...['2147484', '597h', '2147483648ms', '9'.repeat(1000)],
  ])('refuses %j', (text) => {
    expect(() => parseSeconds(text)).toThrow(/seconds, or a time such as/);
  });
});

describe('BLOCK=PATH options', () => {
  it('collect absolute paths by block name', () => {
    const first = collectPath('pc.ram=/dev/shm/a=b');
    expect(first).toEqual({ 'pc.ram': '/dev/shm/a=b' });
    expect(collectPath('/rom@etc/acpi/tables=rom', first)).toEqual({
      'pc.ram': '/dev/shm/a=b',
      '/rom@etc/acpi/tables': `${process.cwd()}/rom`,
    });
  });

  it('take any name for a name', () => {
    expect(Object.entries(collectPath('__proto__=/a'))).toEqual([['__proto__', '/a']]);
  });

  it.each(['pc.ram', 'pc.ram=', '=/a', ''])('refuse %j', (text) => {
    expect(() => collectPath(text)).toThrow(/./);
  });

  it('refuse a block that is named twice', () => {
    expect(() => collectPath('pc.ram=/b', collectPath('pc.ram=/a'))).toThrow(/twice/);
  });
});

describe('BLOCK[=ADDRESS] options', () => {
  it('collect addresses by block name', () => {
    const first = collectIgnored('pc.ram');
    expect(Object.entries(collectIgnored('high.ram=0x100000000', first))).toEqual([
      ['pc.ram', undefined],
      ['high.ram', 1n << 32n],
    ]);
  });

  it.each(['=0', 'a=', 'a=-1', 'a=0xg', 'a=18446744073709551616'])('refuse %j', (text) => {
    expect(() => collectIgnored(text)).toThrow(/./);
  });
});

/** The command line of `npm run bench`. */
import { CommanderError } from 'commander';
import { expect, it } from 'vitest';
import { listOf, oneOf, wholeNumber } from '../../bench/support/arguments.ts';
import { type Options, throughputCommand } from '../../bench/throughput/command.ts';

function parse(...args: string[]): Options {
  const command = throughputCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: () => {} });
  return command.parse(args, { from: 'user' }).opts<Options>();
}

it('a whole number is read as one, within its range', () => {
  expect(wholeNumber()('12')).toBe(12);
  expect(wholeNumber(0, 5)('0')).toBe(0);
  for (const text of ['abc', '', '-1', '1.5', '1e3', '0x10', '6', ' 3', '99999999999999999999'])
    expect(() => wholeNumber(0, 5)(text), text).toThrow('Expected a whole number, 0 to 5.');
});

it('each part of a list is checked', () => {
  expect(listOf(wholeNumber())('1,2, 4')).toEqual([1, 2, 4]);
  expect(() => listOf(wholeNumber())('1,,2')).toThrow('Expected a whole number');
  expect(() => listOf(oneOf(['a', 'b']))('a,c')).toThrow('Expected one of a, b.');
});

it('without options it measures the groups that take minutes', () => {
  expect(parse()).toMatchObject({ only: ['touched', 'fresh', 'qemu'], rounds: 5, mib: 1024, freshMib: 2000 });
});

it('groups, sizes and channels can be chosen', () => {
  const options = parse(
    '--only',
    'flat,sparse',
    '--flat-mib',
    '64,16,32',
    '--channels',
    '2,default',
    '--multifd',
    '8',
  );
  expect(options).toMatchObject({
    only: ['flat', 'sparse'],
    flatMib: [16, 32, 64],
    channels: [2, 'default'],
    multifd: [8],
  });
});

it.each([
  [['--rounds', 'abc'], /--rounds.*abc/],
  [['--nonsense'], /unknown option/],
  [['--only', 'touched,nothing'], /Expected one of touched, fresh/],
  [['--flat-mib', '16,24'], /multiples of the least/],
  [['--channels', '17'], /1 to 16/],
  [['--sparse-mib', '8'], /16 to/], // no whole page for each piece
  [['surplus'], /too many arguments/],
])('%j is refused with a sentence', (args, message) => {
  expect(() => parse(...args)).toThrow(CommanderError);
  expect(() => parse(...args)).toThrow(message);
});

it('--help lists every option', () => {
  const help = throughputCommand().helpInformation();
  for (const option of ['--only', '--targets', '--rounds', '--mib', '--json', '--beside', '--flat-mib'])
    expect(help).toContain(option);
});

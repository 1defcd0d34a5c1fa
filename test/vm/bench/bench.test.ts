import { describe, expect, it } from 'vitest';
import { BenchError } from '../failures.ts';
import { benchVmOptions } from './options.ts';
import { secondsBetween } from './perftest.ts';
import { rowsOf, tableOf } from './table.ts';

describe('benchVmOptions', () => {
  it('has defaults and takes every option', () => {
    expect(benchVmOptions([])).toEqual({ device: 'siw', rounds: 5, mib: 112, qemu: true, json: false });
    const all = ['--device', 'rxe', '--rounds', '3', '--mib', '64', '--no-qemu', '--json'];
    expect(benchVmOptions(all)).toEqual({ device: 'rxe', rounds: 3, mib: 64, qemu: false, json: true });
  });

  it.each([
    ['--device', 'none'],
    ['--rounds', '0'],
    ['--rounds', 'abc'],
    ['--mib', '1e3'],
    ['--mib', '513'],
    ['--mib', '12'],
    ['--unknown'],
  ])('refuses %s %s', (...argv) => {
    expect(() => benchVmOptions(argv)).toThrow(BenchError);
  });
});

describe('secondsBetween', () => {
  const test = { device: 'rxe0', port: 1, bytes: 2 ** 27, messageBytes: 2 ** 21, depth: 8 };
  const HEAD = ' #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]';
  const FIGURES = ' 2097152    64               0.000000            0.000000            0.000000';
  async function* saying(...lines: string[]): AsyncGenerator<string> {
    yield* lines;
  }
  const clock = () => {
    let now = 0;
    return () => (now += 500);
  };

  it('is the time from the head to the figures, whatever those are', async () => {
    const lines = saying(' TX depth  : 8', ' 2097152 of nothing', HEAD, FIGURES, '---');
    expect(await secondsBetween(lines, test, clock())).toBe(0.5);
  });

  it('fails with what was said when there are none, or only those of another size', async () => {
    await expect(secondsBetween(saying(HEAD, ' 65536  64  1.2  0.8  0.1'), test)).rejects.toThrow('65536');
    await expect(secondsBetween(saying(FIGURES), test)).rejects.toThrow('no figures');
  });
});

describe('rowsOf', () => {
  const samples = [
    { name: 'ib_write_bw', rates: [100, 200, 400] },
    {
      name: 'ours',
      rates: [50, 200, 100],
      totals: [1, 2, 3],
      cpu: [3, 1, 2],
      against: 'QEMU',
      phases: [{ ram: 1 }, { ram: 3 }, { ram: 2, end: 5 }],
    },
    { name: 'QEMU', totals: [2, 2, 12] },
  ];

  it('compares within a round, and takes the median', () => {
    const [, ours] = rowsOf(samples);
    expect(ours).toMatchObject({ rateRatio: 0.5, totalRatio: 0.5, against: 'QEMU', cpu: 2 });
    expect(ours?.rate).toEqual({ least: 50, median: 100, most: 200 });
    expect(ours?.phases).toEqual({ ram: 2, end: 0 });
  });

  it('leaves out what was not measured', () => {
    const [baseline, , qemu] = rowsOf(samples);
    expect(baseline).not.toHaveProperty('total');
    expect(qemu).not.toHaveProperty('rate');
    expect(rowsOf(samples.slice(0, 2))[1]).not.toHaveProperty('totalRatio');
  });

  it('prints a head over each column and says what is compared', () => {
    const text = tableOf(rowsOf(samples));
    expect(text).toContain('MB/s');
    expect(text).toContain('CPU s');
    expect(text).toContain('ours: total against QEMU');
  });
});

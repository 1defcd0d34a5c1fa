import { describe, expect, it } from 'vitest';
import { BenchError } from '../failures.ts';
import { benchVmOptions } from './options.ts';
import { bandwidthOf } from './perftest.ts';
import { median, rowsOf, tableOf } from './table.ts';

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

describe('bandwidthOf', () => {
  const HEAD = ' #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n';

  it('is the mean, in bytes per second', () => {
    expect(
      bandwidthOf(`${HEAD} 2097152    64               1.20               0.80   0.000048\n`, 2 ** 21),
    ).toBe(1e8);
  });

  it('is no number of another size, and not nothing', () => {
    expect(() => bandwidthOf(`${HEAD} 65536    64    1.20    0.80   0.000048\n`, 2 ** 21)).toThrow(
      'no figures',
    );
    expect(() => bandwidthOf('', 2 ** 21)).toThrow('no figures');
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

  it('has a median of an even number of values that is one of them', () => {
    expect(median([4, 1, 3, 2])).toBe(2);
  });

  it('prints a head over each column and says what is compared', () => {
    const text = tableOf(rowsOf(samples));
    expect(text).toContain('MB/s');
    expect(text).toContain('CPU s');
    expect(text).toContain('ours: total against QEMU');
  });
});

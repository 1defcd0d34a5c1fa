/** Tables and targets of `npm run bench`, from samples. */
import { describe, expect, it } from 'vitest';
import { tableMarkdown, tableText } from '../../bench/support/table.ts';
import { tablesOf } from '../../bench/throughput/figures.ts';
import type { MeasuredGroup, MeasuredRow, Sample } from '../../bench/throughput/sample.ts';
import { isMet, targetsOf, targetTable } from '../../bench/throughput/targets.ts';

const GIB = 2 ** 30;

function row(id: string, seconds: number | number[], more: Partial<Sample> = {}, bytes = GIB): MeasuredRow {
  const samples = [seconds].flat().map((each) => ({ seconds: each, ...more }));
  const kind = /^(pin-all|dynamic|flat|sparse)/.test(id) ? 'ours' : 'peer';
  return { id, label: id, kind, bytes, samples };
}

const group = (name: string, rows: MeasuredRow[], baseline = rows[0]?.id ?? ''): MeasuredGroup => ({
  name,
  title: name,
  baseline,
  rows,
  notes: [],
});

const measuredOf = (groups: MeasuredGroup[], what: string | RegExp): number | undefined => {
  const found = targetsOf(groups).filter((target) => target.what.match(what));
  expect(found, String(what)).toHaveLength(1);
  return found[0]?.value;
};

describe('tables', () => {
  it('a rate is the median of the samples, and its ratio that of the medians', () => {
    const [table] = tablesOf(group('touched', [row('socket', [1, 4, 2]), row('dynamic', [8, 1, 4])]));
    expect(table?.rows[1]?.slice(0, 5)).toEqual(['dynamic', GIB / 4e9, GIB / 8e9, GIB / 1e9, 0.5]);
  });

  it('rows of other sizes are compared by rate', () => {
    const rows = [row('flat/1', 1), row('flat/4', 4, {}, 4 * GIB)];
    const [table] = tablesOf(group('flat', rows));
    expect(table?.rows.map((cells) => cells[4])).toEqual([1, 1]);
  });

  it('CPU time is told for a GiB', () => {
    const [table] = tablesOf(group('touched', [row('socket', 1, { cpuSeconds: 1 }, GIB / 2)]));
    const at = table?.columns.findIndex(({ unit }) => unit === 's/GiB') ?? -1;
    expect(table?.rows[0]?.[at]).toBe(2);
  });

  it('what control messages cost has a table of its own, where it is known', () => {
    const control = { messages: 10, 'ready-wait': 1, 'key-wait': 2, idle: 5 };
    const rows = [row('socket', 1), row('dynamic', 0.1, { control }, GIB / 2)];
    const [, costs] = tablesOf(group('touched', rows));
    expect(costs?.rows).toEqual([['dynamic', 20, 1, 2, 5, 5]]);
    expect(tablesOf(group('touched', [row('socket', 1)]))).toHaveLength(1);
  });

  it('text has its heads over its columns, and Markdown escapes nothing it need not', () => {
    const table = {
      id: 't',
      title: 'Title',
      columns: [{ head: 'what' }, { head: 'rate', unit: 'GB/s', digits: 1 }],
      rows: [
        ['one', 1.25],
        ['another', null],
      ],
    };
    expect(tableText(table).split('\n')).toEqual([
      'Title',
      'what     rate',
      '         GB/s',
      '-------  ----',
      'one       1.3',
      'another',
    ]);
    expect(tableMarkdown(table)).toBe('| what | rate, GB/s |\n|---|---:|\n| one | 1.3 |\n| another |  |');
  });
});

describe('targets', () => {
  const touched = group('touched', [
    row('iperf3', 0.5, { cpuSeconds: 0.4 }),
    row('iperf3-z', 0.4),
    row('socket', 0.5, { cpuSeconds: 0.4 }),
    row('pin-all/crc-off/default', 0.25, { cpuSeconds: 0.5 }),
    row('pin-all/crc-on/default', 0.5),
    row('dynamic/crc-off/default', 1),
    row('dynamic/crc-off/4', 0.2),
  ]);

  it('the RAM phase is compared with the raw loop and with iperf3, by rate', () => {
    expect(measuredOf([touched], /^pin-all, CRC off: rate to the raw/)).toBeCloseTo(2);
    expect(measuredOf([touched], /^dynamic, CRC off: rate to iperf3/)).toBeCloseTo(0.5);
    expect(measuredOf([touched], /^pin-all: rate with CRC to without/)).toBeCloseTo(0.5);
    expect(measuredOf([touched], /^pin-all, CRC off: CPU/)).toBeCloseTo(1.25);
  });

  it('the best configuration is the fastest of all, and is named', () => {
    expect(
      measuredOf([touched], /^best configuration \(dynamic\/crc-off\/4\): rate to iperf3 -Z/),
    ).toBeCloseTo(2);
  });

  it('whole migrations are compared by time, and with the slower of the two limits', () => {
    const fresh = group('fresh', [
      row('touch-pwrite', 0.8),
      row('socket', 0.5),
      row('pin-all/crc-off/default', 1),
      row('dynamic/crc-off/default', 1.1),
      row('qemu/tcp', 8),
      row('qemu/multifd-4', 2),
    ]);
    expect(measuredOf([fresh], /^pin-all: total time to QEMU multifd/)).toBeCloseTo(0.5);
    expect(measuredOf([fresh], /^pin-all: total time to QEMU over tcp/)).toBeCloseTo(0.125);
    expect(measuredOf([fresh], /^pin-all: rate to the slower/)).toBeCloseTo(0.8);
    expect(measuredOf([fresh], /^total time dynamic to pin-all/)).toBeCloseTo(1.1);
  });

  it('time a GiB is the most to the least', () => {
    const rows = [row('flat/1', 1), row('flat/2', 1.8, {}, 2 * GIB), row('flat/4', 4.4, {}, 4 * GIB)];
    expect(measuredOf([group('flat', rows)], /^time a GiB into fresh/)).toBeCloseTo(1.1 / 0.9);
  });

  it('encrypted migrations are compared with the fastest that QEMU has over TLS', () => {
    const tls = group('tls', [
      row('dynamic/crc-off/default', 0.5),
      row('dynamic/x509/default', 1),
      row('qemu/tcp/tls', 1.5),
      row('qemu/multifd-2/tls', 4),
      row('qemu/multifd-4/tls', 3),
    ]);
    expect(measuredOf([tls], /^encrypted: rate to QEMU multifd/)).toBeCloseTo(3);
  });

  it('what was not measured has no value and is not met', () => {
    const targets = targetsOf([]);
    expect(targets.map(({ value }) => value)).toEqual(targets.map(() => undefined));
    expect(targets.some(isMet)).toBe(false);
    expect(targetTable(targets).rows.every((cells) => cells[3] === 'not measured')).toBe(true);
  });

  it('a bound counts as met', () => {
    expect(isMet({ what: '', bound: 'at least', limit: 1, value: 1 })).toBe(true);
    expect(isMet({ what: '', bound: 'at least', limit: 1, value: 0.99 })).toBe(false);
    expect(isMet({ what: '', bound: 'at most', limit: 1, value: 1.01 })).toBe(false);
  });
});

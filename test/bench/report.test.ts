/** docs/benchmarks.md, which is made. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeFiles } from '../../bench/report/files.ts';
import { picturesOf } from '../../bench/report/plots.ts';
import { render } from '../../bench/report/render.ts';
import type { Report } from '../../bench/support/report.ts';

const ROOT = new URL('../..', import.meta.url).pathname;

const report: Report = {
  format: 'rdma-migrate benchmark 1',
  bench: 'many',
  date: '2026-01-02T03:04:05Z',
  machine: { model: 'CPU', cores: 2, memoryGiB: 4, kernel: '6.18', node: 'v20', loadBefore: 0.1 },
  arguments: ['--count', '8', '--json', 'docs/many.json'],
  tables: [
    { id: 'many', title: 'Title', columns: [{ head: 'what' }, { head: 'n', digits: 0 }], rows: [['one', 3]] },
  ],
};
const reports = new Map([['many', report]]);

describe('the documents in the repository', () => {
  it.each([...madeFiles(ROOT)])(
    '%s is what its results make (else: npm run bench:report)',
    (path, content) => {
      expect(readFileSync(join(ROOT, path), 'utf8')).toBe(content);
    },
  );
});

describe('rendering', () => {
  it('a table comes with its title and figures', () => {
    expect(render('{{table many many}}', reports)).toContain(
      'Title:\n\n| what | n |\n|---|---:|\n| one | 3 |',
    );
  });

  it('a run says how to repeat it, without where its result went', () => {
    expect(render('{{run many}}', reports)).toContain(
      '`npm run bench:many -- --count 8` on 2026-01-02: 2 x CPU, 4 GiB',
    );
  });

  it('what was not measured says so, once', () => {
    const text = render('{{run other}}\n{{table other rows}}\n{{plot other rows}}', reports);
    expect(text.match(/Not measured yet/g)).toHaveLength(1);
    expect(text).toContain('npm run bench:record -- other');
  });

  it('a group that the run has left out says so, once', () => {
    const throughput = { ...report, bench: 'throughput', samples: [] };
    const template = '{{plot throughput tls}}\n{{table throughput tls}}\n{{table throughput tls-control}}';
    const text = render(template, new Map([['throughput', throughput]]));
    expect(text.match(/Not measured yet/g)).toHaveLength(1);
  });

  it('a place that nothing fits is an error', () => {
    expect(() => render('{{table many nothing}}', reports)).toThrow('{{table many nothing}}');
    expect(() => render('{{plot many many}}', reports)).toThrow('no such plot');
  });
});

describe('pictures', () => {
  const sizes = (kind: 'ours' | 'limit', name: string) =>
    [1, 2].map((gib) => ({
      id: `${name}/${gib}`,
      label: `${gib} GiB`,
      kind,
      bytes: gib * 2 ** 30,
      samples: [{ seconds: gib }],
    }));
  const flat = (...rows: ReturnType<typeof sizes>): string =>
    picturesOf({
      ...report,
      bench: 'throughput',
      samples: [{ name: 'flat', title: '', baseline: 'flat/1', rows, notes: [] }],
    })[0]?.svg ?? '';

  it('have a legend where there are several series, and none of what was not measured', () => {
    const both = flat(...sizes('ours', 'flat'), ...sizes('limit', 'touch-pwrite'));
    expect(both).toContain('first touch by pwrite alone');
    expect(both).toContain('rdma-migrate, dynamic');
    expect(flat(...sizes('ours', 'flat'))).not.toContain('first touch by pwrite alone');
  });
});

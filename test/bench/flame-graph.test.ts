/** Flame graphs, from what perf prints. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { flameGraph } from '../../bench/profile/flame-graph.ts';
import { sampled } from '../../bench/profile/perf.ts';
import { shortName, treeOf } from '../../bench/profile/stacks.ts';

const SCRIPT = `iwarp 100/101 
\tffffffff81 _copy_from_iter ([kernel.kallsyms])
\t    7f0001 rdma_migrate::iwarp::TxBatch::send(int, std::vector<int, std::allocator<int> > const&)+0x12
\t    7f0000 start_thread+0x3

node 200/201 
\t    7f0002 [unknown]
\t    7f0003 [unknown]
\t    7f0000 start_thread

node 200/201 
\t    7f0000 start_thread
`;
const nameOf = (pid: number): string => (pid === 100 ? 'source' : 'destination');

describe('stacks', () => {
  it('what is called stands over what calls, by process, most first', () => {
    const root = treeOf(SCRIPT, nameOf);
    expect(root.samples).toBe(3);
    expect(root.callees.map(({ name, samples }) => [name, samples])).toEqual([
      ['destination', 2],
      ['source', 1],
    ]);
    const [send] = root.callees[1]?.callees[0]?.callees ?? [];
    expect(send?.name).toBe('rdma_migrate::iwarp::TxBatch::send');
    expect(send?.callees[0]?.name).toBe('_copy_from_iter');
  });

  it('places without a name are one place', () => {
    const [start] = treeOf(SCRIPT, nameOf).callees[0]?.callees ?? [];
    expect(start).toMatchObject({ name: 'start_thread', samples: 2 });
    expect(start?.callees).toEqual([{ name: '[unknown]', samples: 1, callees: [] }]);
  });

  it('no samples is an error, not an empty picture', () => {
    expect(() => treeOf('', nameOf)).toThrow('no sample');
  });

  it.each([
    ['do_syscall_64', 'do_syscall_64'],
    ['rdma_migrate::(anonymous namespace)::Pool::run(std::function<void ()>)', 'rdma_migrate::Pool::run'],
    [
      'std::_Function_handler<void (), X::{lambda()#1}>::_M_invoke(std::_Any_data const&)',
      'std::_Function_handler::_M_invoke',
    ],
    ['a::B::operator()(int) const', 'a::B::operator()'],
  ])('%s is shown as %s', (symbol, short) => {
    expect(shortName(symbol)).toBe(short);
  });
});

describe('a flame graph', () => {
  const draw = () => flameGraph({ title: 'A & B', subtitle: 's', root: treeOf(SCRIPT, nameOf) });

  it('has a box for each place, with its share', () => {
    expect(draw()).toContain('<title>destination: 66.7 %</title>');
    expect(draw().match(/<title>/g)).toHaveLength(9);
  });

  it('is XML, whatever functions are called', () => {
    const svg = flameGraph({
      title: 'A & B',
      subtitle: 's',
      root: { name: 'f<T>&', samples: 1, callees: [] },
    });
    expect(svg).toContain('<title>f&lt;T&gt;&amp;: 100.0 %</title>');
    expect(svg).toContain('A &amp; B');
  });

  it('does not draw what nobody can see', () => {
    const rare = { name: 'rare', samples: 1, callees: [] };
    const root = {
      name: 'all',
      samples: 100_000,
      callees: [{ name: 'much', samples: 99_999, callees: [] }, rare],
    };
    expect(flameGraph({ title: '', subtitle: '', root })).not.toContain('rare');
  });
});

describe('sampling', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rdma-migrate-perf-'));
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  it('fails at once when perf may not sample', async () => {
    writeFileSync(join(folder, 'perf'), '#!/bin/sh\nexit 255\n', { mode: 0o755 });
    vi.stubEnv('PATH', `${folder}:${process.env.PATH}`);
    await expect(sampled([process.pid], async () => {})).rejects.toThrow('perf has ended before it began');
  });
});

/** What this package wants to reach, as ratios of medians of one run. Pure. */
import { spreadOf } from '../support/statistics.ts';
import type { Table } from '../support/table.ts';
import { cpuPerGib, rates, rowById, seconds } from './figures.ts';
import { idOf, OTHER_BUILD } from './ours.ts';
import type { MeasuredGroup, MeasuredRow } from './sample.ts';

export interface Target {
  readonly what: string;
  readonly bound: 'at least' | 'at most';
  readonly limit: number;
  /** Absent: not measured in this run. */
  readonly value?: number;
}

export const isMet = ({ bound, limit, value = Number.NaN }: Target): boolean =>
  bound === 'at least' ? value >= limit : value <= limit;

type Find = (id: string) => MeasuredRow | undefined;
type Figure = (row: MeasuredRow) => number | undefined;

const speed: Figure = (row) => spreadOf(rates(row)).median;

/** The quotient of one figure of two rows; undefined unless both are there. */
function ratio(
  one: MeasuredRow | undefined,
  other: MeasuredRow | undefined,
  figure: Figure,
): number | undefined {
  const [above, below] = [one && figure(one), other && figure(other)];
  return above === undefined || below === undefined ? undefined : above / below;
}

const target = (what: string, bound: Target['bound'], limit: number, value: number | undefined): Target => ({
  what,
  bound,
  limit,
  ...(value !== undefined && { value }),
});

const ours = (pinAll: boolean, crc: boolean): string => idOf({ pinAll, crc, channels: 'default' });
const REGISTRATIONS = [
  ['pin-all', true],
  ['dynamic', false],
] as const;

function touched(find: Find, rows: readonly MeasuredRow[]): Target[] {
  const own = rows.filter(({ kind, id }) => kind === 'ours' && !id.startsWith(OTHER_BUILD));
  const best = own.sort((a, b) => seconds(a) - seconds(b))[0];
  const each = REGISTRATIONS.flatMap(([name, pinAll]) => {
    const [off, on] = [find(ours(pinAll, false)), find(ours(pinAll, true))];
    return [
      target(
        `${name}, CRC off: rate to the raw socket loop`,
        'at least',
        1,
        ratio(off, find('socket'), speed),
      ),
      target(`${name}, CRC off: rate to iperf3`, 'at least', 0.95, ratio(off, find('iperf3'), speed)),
      target(`${name}: rate with CRC to without`, 'at least', 0.8, ratio(on, off, speed)),
      target(
        `${name}, CRC off: CPU a GiB to the raw socket loop`,
        'at most',
        1.15,
        ratio(off, find('socket'), cpuPerGib),
      ),
    ];
  });
  const name = best ? ` (${best.label})` : '';
  return [
    ...each,
    target(
      `best configuration${name}: rate to iperf3 -Z`,
      'at least',
      0.9,
      ratio(best, find('iperf3-z'), speed),
    ),
  ];
}

/** The slower of what the destination's memory and the way to it allow. */
function slowest(find: Find): MeasuredRow | undefined {
  const [memory, wire] = [find('touch-pwrite'), find('socket')];
  if (!memory || !wire) return undefined;
  return seconds(memory) > seconds(wire) ? memory : wire;
}

function fresh(find: Find): Target[] {
  const each = REGISTRATIONS.flatMap(([name, pinAll]) => {
    const row = find(ours(pinAll, false));
    return [
      target(
        `${name}: total time to QEMU multifd with 4 channels`,
        'at most',
        0.4,
        ratio(row, find('qemu/multifd-4'), seconds),
      ),
      target(`${name}: total time to QEMU over tcp`, 'at most', 0.25, ratio(row, find('qemu/tcp'), seconds)),
      target(
        `${name}: rate to the slower of pwrite and the raw socket loop`,
        'at least',
        0.7,
        ratio(row, slowest(find), speed),
      ),
    ];
  });
  return [
    ...each,
    target(
      'total time dynamic to pin-all',
      'at most',
      1.05,
      ratio(find(ours(false, false)), find(ours(true, false)), seconds),
    ),
  ];
}

function flat(all: readonly MeasuredRow[], memory: string): Target[] {
  const rows = all.filter(({ kind }) => kind === 'ours');
  const perByte = rows.map((row) => seconds(row) / row.bytes);
  const value = rows.length > 1 ? Math.max(...perByte) / Math.min(...perByte) : undefined;
  const sizes = rows.length > 1 ? `, ${rows[0]?.label} to ${rows.at(-1)?.label}` : '';
  return [target(`time a GiB into ${memory} memory, most to least${sizes}`, 'at most', 1.1, value)];
}

function sparse(find: Find): Target[] {
  const value = ratio(find('sparse/4096'), find('sparse/small'), seconds);
  return [target('sparse VM of 4096 pieces: total time to a small VM that is full', 'at most', 1.2, value)];
}

/** Beside the fastest that QEMU has. */
function encrypted(find: Find, rows: readonly MeasuredRow[]): Target[] {
  const qemus = rows.filter(({ id }) => id.startsWith('qemu/multifd'));
  const fastest = qemus.sort((one, other) => seconds(one) - seconds(other))[0];
  const own = find(idOf({ pinAll: false, crc: false, tls: true, channels: 'default' }));
  const value = ratio(own, fastest, speed);
  return [target('encrypted: rate to QEMU multifd with TLS', 'at least', 2, value)];
}

/** All of them; those of groups that were not measured are without a value. */
export function targetsOf(groups: readonly MeasuredGroup[]): Target[] {
  const named = (name: string): MeasuredGroup | undefined => groups.find((group) => group.name === name);
  const find =
    (name: string): Find =>
    (id) =>
      rowById(named(name), id);
  return [
    ...touched(find('touched'), named('touched')?.rows ?? []),
    ...fresh(find('fresh')),
    ...flat(named('flat-touched')?.rows ?? [], 'touched'),
    ...flat(named('flat')?.rows ?? [], 'fresh'),
    ...sparse(find('sparse')),
    ...encrypted(find('tls'), named('tls')?.rows ?? []),
  ];
}

function verdict(target: Target): string {
  if (target.value === undefined) return 'not measured';
  return isMet(target) ? 'met' : 'NOT MET';
}

export function targetTable(targets: readonly Target[]): Table {
  return {
    id: 'targets',
    title: 'Targets: ratios of medians of this run',
    columns: [{ head: 'ratio' }, { head: 'wanted' }, { head: 'measured' }, { head: '' }],
    rows: targets.map((one) => [
      one.what,
      `${one.bound} ${one.limit.toFixed(2)}`,
      one.value ?? null,
      verdict(one),
    ]),
  };
}

/** Makes docs/benchmarks.md from a text with places for figures, and from what the benchmarks measured. Pure. */
import { machineText, type Report } from '../support/report.ts';
import { tableMarkdown } from '../support/table.ts';
import { GROUPS } from '../throughput/plan.ts';
import { type Picture, picturesOf } from './plots.ts';

/** By the name of their benchmark. */
export type Reports = ReadonlyMap<string, Report>;

const MADE =
  '<!-- Made by `npm run bench:report` from bench/report/template.md and docs/benchmarks/*.json: change those. -->\n\n';
const PLACE = /\{\{(run|table|plot) ([\w-]+)(?: ([\w-]+))?\}\}/g;

export const pictureFile = (bench: string, { id }: Pick<Picture, 'id'>): string => `${bench}-${id}.svg`;

const missing = (bench: string): string => `*Not measured yet: \`npm run bench:record -- ${bench}\`.*`;

/** A run measures the groups that it was asked for. The plot of one that it has left out says so for its tables. */
const CAN_BE_LEFT_OUT: ReadonlySet<string | undefined> = new Set(
  GROUPS.flatMap((group) => [group, `${group}-control`]),
);

/**
 * The document. Places are `{{run BENCH}}` (when and where it was measured), `{{table BENCH TABLE}}` and `{{plot BENCH GROUP}}`; what was
 * not measured says so.
 * @throws Error a place that nothing fits
 */
export function render(template: string, reports: Reports): string {
  const text = template.replace(PLACE, (place, kind: string, bench: string, id: string | undefined) => {
    const report = reports.get(bench);
    if (!report) return kind === 'run' ? missing(bench) : '';
    const made = kind === 'run' ? run(report) : kind === 'table' ? table(report, id) : plot(report, id);
    if (made !== undefined) return made;
    if (bench === 'throughput' && CAN_BE_LEFT_OUT.has(id)) return kind === 'plot' ? missing(bench) : '';
    throw new Error(`${place}: the result of ${bench} has no such ${kind}`);
  });
  return MADE + text.replace(/\n{3,}/g, '\n\n');
}

function run({ bench, date, machine, arguments: given }: Report): string {
  const script = bench === 'throughput' ? 'bench' : `bench:${bench}`;
  const options = given.filter((_, at) => given[at] !== '--json' && given[at - 1] !== '--json');
  const command = [`npm run ${script}`, ...(options.length > 0 ? ['--', ...options] : [])].join(' ');
  return `\`${command}\` on ${date.slice(0, 10)}: ${machineText(machine)}.`;
}

function table({ tables }: Report, id: string | undefined): string | undefined {
  const found = tables.find((one) => one.id === id);
  return found && `${found.title.replaceAll('\n', ' ')}:\n\n${tableMarkdown(found)}`;
}

function plot(report: Report, id: string | undefined): string | undefined {
  const found = picturesOf(report).find((picture) => picture.id === id);
  return found && `![${found.title}](benchmarks/${pictureFile(report.bench, found)})`;
}

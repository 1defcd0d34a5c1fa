/** Where the documents and their figures are. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readReport } from '../support/report.ts';
import { picturesOf } from './plots.ts';
import { pictureFile, type Reports, render } from './render.ts';

/** Folders and files, from the repository's root. */
export const RESULTS = 'docs/benchmarks';
const DOCUMENT = 'docs/benchmarks.md';
const TEMPLATE = 'bench/report/template.md';

export function readReports(root: string): Reports {
  const names = readdirSync(join(root, RESULTS)).filter((name) => name.endsWith('.json'));
  const reports = names.sort().map((name) => readReport(join(root, RESULTS, name)));
  return new Map(reports.map((report) => [report.bench, report]));
}

/** Everything that is made: contents by path from the root. */
export function madeFiles(root: string): ReadonlyMap<string, string> {
  const reports = readReports(root);
  const made = new Map([[DOCUMENT, render(readFileSync(join(root, TEMPLATE), 'utf8'), reports)]]);
  for (const report of reports.values())
    for (const picture of picturesOf(report))
      made.set(join(RESULTS, pictureFile(report.bench, picture)), picture.svg);
  return made;
}

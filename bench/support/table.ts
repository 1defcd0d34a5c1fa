/** A table of figures: the same for the terminal, the JSON and the documents. */

export interface Column {
  readonly head: string;
  /** Written under the head. */
  readonly unit?: string | undefined;
  /** After the point; 2 if absent. */
  readonly digits?: number | undefined;
}

/** Null: there is no such figure. */
export type Cell = string | number | null;

export interface Table {
  readonly id: string;
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
}

const GAP = '  ';

export function cellText(cell: Cell | undefined, { digits = 2 }: Column): string {
  if (cell === null || cell === undefined) return '';
  return typeof cell === 'number' ? cell.toFixed(digits) : cell;
}

/** In columns, with heads; numbers end on the right. */
export function tableText({ title, columns, rows }: Table): string {
  const heads = [columns.map(({ head }) => head)];
  if (columns.some(({ unit }) => unit)) heads.push(columns.map(({ unit = '' }) => unit));
  const body = rows.map((row) => columns.map((column, at) => cellText(row[at], column)));
  const isNumber = columns.map((_, at) => rows.some((row) => typeof row[at] === 'number'));
  const widths = columns.map((_, at) =>
    Math.max(...[...heads, ...body].map((line) => line[at]?.length ?? 0)),
  );
  const lines = [...heads, widths.map((width) => '-'.repeat(width)), ...body].map((line) =>
    line
      .map((cell, at) =>
        isNumber[at] ? cell.padStart(widths[at] as number) : cell.padEnd(widths[at] as number),
      )
      .join(GAP)
      .trimEnd(),
  );
  return [title, ...lines].join('\n');
}

/** As Markdown. */
export function tableMarkdown({ columns, rows }: Table): string {
  const head = columns.map(({ head, unit }) => (unit ? `${head}, ${unit}` : head));
  const numeric = columns.map((_, at) => rows.some((row) => typeof row[at] === 'number'));
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(head),
    `|${numeric.map((is) => (is ? '---:' : '---')).join('|')}|`,
    ...rows.map((row) => line(columns.map((column, at) => cellText(row[at], column)))),
  ].join('\n');
}

/** What is seen of a benchmark while it runs: a table that is drawn again on a terminal, or lines as they become final; and how far it is. */
import type { Point } from '../bench/plan.ts';
import { bytesLabel } from '../bench/plot/scale.ts';
import type { BenchResult, PointResult } from '../bench/result.ts';
import { sectionHead, tableLines, tableNotes, tableRow } from '../bench/table.ts';
import { formatDuration, printable } from './format.ts';
import { drawsBars } from './progress-view.ts';

/** Between two lines of progress where they stay. */
const PROGRESS_MS = 5_000;
const CLEAR_LINE = '\r\u001b[K';

export interface BenchView {
  begun(result: BenchResult): void;
  step(step: number, steps: number, point: Point, round: number): void;
  measured(index: number, result: PointResult): void;
  /** The user has been told that it stops. */
  cancelled(): void;
  /** The whole table, or what there is of it. */
  ended(result: BenchResult): void;
}

export function benchView({ json = false, quiet = false }: { json?: boolean; quiet?: boolean }): BenchView {
  if (quiet) return new Lines(json, false);
  if (!json && drawsBars(process.stdout)) return new LiveTable(process.stdout);
  return new Lines(json, true);
}

const out = (line: string): void => void process.stdout.write(`${printable(line)}\n`);

/** Where it goes and on what. */
export function headLines({ provider, connection, here, there, settings }: BenchResult): readonly string[] {
  const machine = ({ cpus, model, kernel, node, tool }: BenchResult['here']): string =>
    `${cpus} x ${model}, Linux ${kernel}, Node ${node}, rdma-migrate ${tool}`;
  const ends = settings.local
    ? [`both ends here: ${machine(here)}`]
    : [`here:  ${machine(here)}`, `there: ${machine(there)}`];
  const detail = connection === '' ? '' : `; ${connection}`;
  return [`provider ${provider.name}: ${provider.reason}${detail}`, ...ends];
}

class Progress {
  readonly #began = performance.now();
  #last = Number.NEGATIVE_INFINITY;

  line(step: number, steps: number, point: Point, round: number): string {
    const passed = performance.now() - this.#began;
    const left = step > 1 ? `, about ${formatDuration((passed / (step - 1)) * (steps - step + 1))} left` : '';
    return `round ${round}, ${step} of ${steps}: ${nameOf(point)}${left}`;
  }

  /** Whether it is time for another line. */
  due(): boolean {
    if (performance.now() - this.#last < PROGRESS_MS) return false;
    this.#last = performance.now();
    return true;
  }
}

/** Each row once, when its last round is over; how far it is on stderr. */
class Lines implements BenchView {
  readonly #json: boolean;
  readonly #tells: boolean;
  readonly #progress = new Progress();
  #rounds = 0;
  #kind: string | undefined;
  #printed = 0;

  constructor(json: boolean, tells: boolean) {
    this.#json = json;
    this.#tells = tells;
  }

  begun(result: BenchResult): void {
    this.#rounds = result.settings.rounds;
    if (!this.#json && this.#tells) headLines(result).forEach(out);
  }

  step(step: number, steps: number, point: Point, round: number): void {
    if (!this.#tells) return;
    const terminal = drawsBars(process.stderr);
    const line = this.#progress.line(step, steps, point, round);
    if (terminal) process.stderr.write(`${CLEAR_LINE}${line.slice(0, process.stderr.columns - 1)}`);
    else if (this.#progress.due()) process.stderr.write(`rdma-migrate: ${line}\n`);
  }

  measured(_index: number, result: PointResult): void {
    if (result.rounds === this.#rounds) this.#print(result);
  }

  cancelled(): void {}

  ended(result: BenchResult): void {
    for (const point of result.points.slice(this.#printed)) if (point.rounds > 0) this.#print(point);
    if (!this.#json) tableNotes(result).forEach(out);
  }

  #print(point: PointResult): void {
    this.#printed++;
    if (this.#tells && drawsBars(process.stderr)) process.stderr.write(CLEAR_LINE);
    if (this.#json) return;
    if (point.kind !== this.#kind) sectionHead(point.kind).forEach(out);
    this.#kind = point.kind;
    out(tableRow(point));
  }
}

/** The table in the last lines of a terminal, with how far it is below. */
class LiveTable implements BenchView {
  readonly #stream: NodeJS.WriteStream;
  readonly #progress = new Progress();
  #result: BenchResult | undefined;
  #current = 0;
  #status = '';
  /** Lines on the screen that the next drawing replaces. */
  #drawn = 0;
  #frozen = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  begun(result: BenchResult): void {
    this.#result = result;
    for (const line of headLines(result)) this.#stream.write(`${printable(line)}\n`);
  }

  step(step: number, steps: number, point: Point, round: number): void {
    this.#current = (step - 1) % (this.#result?.points.length ?? 1);
    this.#status = this.#progress.line(step, steps, point, round);
    this.#draw();
  }

  measured(): void {
    this.#draw();
  }

  ended(result: BenchResult): void {
    this.#clear();
    for (const line of tableLines(result)) this.#stream.write(`${printable(line)}\n`);
  }

  /** The words at Ctrl-C have come below: they are cleared with the table. */
  cancelled(): void {
    if (this.#drawn > 0 && process.stderr.isTTY) this.#drawn += 1;
    this.#frozen = true;
  }

  #draw(): void {
    if (this.#result === undefined || this.#frozen) return;
    const lines = [...visible(this.#result, this.#current, this.#stream.rows - 3), '', this.#status];
    this.#clear();
    const cut = lines.map((line) => printable(line).slice(0, Math.max(20, this.#stream.columns - 1)));
    this.#stream.write(`${cut.join('\n')}\n`);
    this.#drawn = cut.length;
  }

  #clear(): void {
    if (this.#drawn > 0) this.#stream.write(`\u001b[${this.#drawn}A\r\u001b[J`);
    this.#drawn = 0;
  }
}

/** The table, or as much of it around the current row as there is room for. */
function visible(result: BenchResult, current: number, room: number): readonly string[] {
  const all = tableLines(result);
  if (all.length <= room || !(room > 5)) return all.slice(0, Math.max(5, room || 20));
  const kind = result.points[current]?.kind;
  const own = result.points.filter((point) => point.kind === kind);
  const at = own.indexOf(result.points[current] as PointResult);
  const head = kind === undefined ? [] : sectionHead(kind);
  const rows = Math.max(1, room - head.length);
  const first = Math.max(0, Math.min(at - Math.floor(rows / 2), own.length - rows));
  return [...head, ...own.slice(first, first + rows).map(tableRow)];
}

/** `WRITE 64 KiB`, `migration of 1 GiB`. */
export function nameOf(point: Point): string {
  if (point.kind === 'migration') return `migration of ${bytesLabel(point.ramBytes)}`;
  const what = point.kind === 'latency' ? ' latency' : '';
  return `${point.operation.toUpperCase()}${what} ${bytesLabel(point.messageBytes)}`;
}

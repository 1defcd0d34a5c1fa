import { progressLine, progressLines } from './progress-lines.ts';
import type { BarState } from './reporter.ts';

/** Between two lines of progress where they stay. */
const LINE_MS = 30_000;

/** Shows how far work is. */
export interface ProgressView {
  update(state: BarState): void;
  /** Writes a line above. */
  print(line: string): void;
  /** The work is over: nothing of it stays on a terminal. */
  stop(): void;
}

/** Whether a terminal obeys what a bar has to send. */
export function drawsBars(stream: NodeJS.WriteStream, { TERM } = process.env): boolean {
  return stream.isTTY === true && TERM !== 'dumb';
}

/**
 * The last lines of a terminal, drawn again with each update. The cursor stands below them and stays visible, so that whatever ends the process leaves a
 * terminal that works. No colours. Nothing is drawn before the total is known.
 */
export class ProgressArea implements ProgressView {
  readonly #stream: NodeJS.WriteStream;
  /** On the screen; the next drawing replaces them. */
  #drawn: readonly string[] = [];

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  update(state: BarState): void {
    if (state.total === 0) return;
    const { columns, rows } = this.#stream;
    // Lines that have scrolled off the screen cannot be replaced.
    const lines = progressLines(state, columns).slice(0, Math.max(1, (rows || Number.POSITIVE_INFINITY) - 1));
    this.#stream.write(`${this.#erasing()}${lines.join('\n')}\n`);
    this.#drawn = lines;
  }

  print(line: string): void {
    this.#stream.write(`${this.#erasing()}${line}\n`);
  }

  stop(): void {
    const text = this.#erasing();
    if (text !== '') this.#stream.write(text);
  }

  /** What takes the lines away. In a terminal that has become narrower meanwhile one of them takes several rows. */
  #erasing(): string {
    const columns = this.#stream.columns || Number.POSITIVE_INFINITY;
    const rows = this.#drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
    this.#drawn = [];
    return rows === 0 ? '' : `\r\u001b[${rows}A\u001b[J`;
  }
}

/** A line now and then, for logs and pipes: none of work that is over soon. */
export class ProgressLog implements ProgressView {
  readonly #write: (line: string) => void;
  readonly #now: () => number;
  #last: number | undefined;

  constructor(write: (line: string) => void, now: () => number = () => performance.now()) {
    this.#write = write;
    this.#now = now;
  }

  update(state: BarState): void {
    if (state.total === 0) return;
    const now = this.#now();
    this.#last ??= now;
    if (now - this.#last < LINE_MS) return;
    this.#last = now;
    this.#write(`rdma-migrate: ${progressLine(state)}`);
  }

  print(line: string): void {
    this.#write(line);
  }

  stop(): void {
    this.#last = undefined;
  }
}

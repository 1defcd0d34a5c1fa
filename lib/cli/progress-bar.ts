import { SingleBar } from 'cli-progress';
import { barLayout } from './bar-layout.ts';
import { formatBytes, formatDuration, formatRate } from './format.ts';
import type { BarState } from './reporter.ts';

const CLEAR_LINE = '\r\u001b[K';

/** The fields of the bar's line that are no numbers of its own. */
export function barFields(state: BarState): Record<'phase' | 'done' | 'size' | 'rate' | 'left', string> {
  const { phase, done, total, bytesPerSecond, secondsLeft } = state;
  return {
    phase: phase.padEnd('device-state'.length),
    done: formatBytes(done),
    size: formatBytes(total),
    rate: formatRate(bytesPerSecond),
    left: secondsLeft === undefined ? '' : `${formatDuration(secondsLeft * 1000)} left`,
  };
}

/** Whether a terminal obeys what a bar has to send. */
export function drawsBars(stream: NodeJS.WriteStream, { TERM } = process.env): boolean {
  return stream.isTTY === true && TERM !== 'dumb';
}

/** A bar in the last line of a terminal. Nothing is drawn before the total is known. */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  #bar: SingleBar | undefined;
  /** Of the terminal when the bar was begun. */
  #columns = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  update(state: BarState): void {
    if (state.total === 0) return;
    if (this.#columns !== this.#stream.columns) this.stop();
    this.#bar ??= this.#start(state);
    this.#bar.update(state.done, barFields(state));
  }

  /** Writes a line where the bar was; the next update draws it again below. */
  print(line: string): void {
    this.stop();
    this.#stream.write(`${line}\n`);
  }

  stop(): void {
    if (this.#bar === undefined) return;
    this.#bar.stop();
    this.#bar = undefined;
    this.#stream.write(CLEAR_LINE);
  }

  #start(state: BarState): SingleBar {
    this.#columns = this.#stream.columns;
    const { format, barSize } = barLayout(this.#columns);
    // gracefulExit would have signal handlers of its own; ours lets the migration end first.
    const options = {
      stream: this.#stream,
      format,
      gracefulExit: false,
      clearOnComplete: true,
      barsize: barSize,
    };
    const bar = new SingleBar(options);
    bar.start(state.total, state.done, barFields(state));
    return bar;
  }
}

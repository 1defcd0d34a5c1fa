const CLEAR_LINE = '\r\u001b[K';
const INDENT = ' '.repeat(12);

/** Prints what happens: numbered steps with the time since the start, and one line that is rewritten on a terminal. */
export class Narrator {
  readonly #output: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly #started = performance.now();
  #steps = 0;

  constructor(output: NodeJS.WritableStream & { readonly isTTY?: boolean }) {
    this.#output = output;
  }

  /** Seconds since the start. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  step(text: string): void {
    this.#steps += 1;
    const time = `[${this.seconds.toFixed(1).padStart(5)} s]`;
    this.line(`${time} ${String(this.#steps).padStart(2)}. ${text}`);
  }

  say(text: string): void {
    this.line(`${INDENT} ${text}`);
  }

  line(text: string): void {
    this.#output.write(`${this.#output.isTTY ? CLEAR_LINE : ''}${text}\n`);
  }

  /** Shown until the next line is written; not at all without a terminal. */
  progress(text: string): void {
    if (this.#output.isTTY) this.#output.write(`${CLEAR_LINE}${INDENT} ${text}`);
  }
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.5 GiB`. */
export function bytes(count: number | bigint): string {
  let value = Number(count);
  let unit = 0;
  for (; value >= 1024 && unit + 1 < UNITS.length; unit++) value /= 1024;
  return `${value.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

/** `1.5 GiB/s`, of so many bytes in so many milliseconds. */
export function rate(count: number | bigint, milliseconds: number): string {
  return `${bytes(milliseconds > 0 ? (Number(count) * 1000) / milliseconds : 0)}/s`;
}

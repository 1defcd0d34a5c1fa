/** What is being measured, on stderr: a line that is written over on a terminal, elsewhere a line now and then. */

const BETWEEN_LINES_MS = 5_000;

export class Status {
  readonly #began = performance.now();
  readonly #total: number;
  #done = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  /** `total`: how many steps there will be. */
  constructor(total: number) {
    this.#total = total;
  }

  /** A step begins. */
  step(what: string): void {
    const now = performance.now();
    const seconds = (now - this.#began) / 1000;
    const left =
      this.#done === 0
        ? ''
        : `, about ${Math.ceil((seconds / this.#done) * (this.#total - this.#done))} s left`;
    this.#done += 1;
    const line = `${this.#done}/${this.#total}  ${what}  (${seconds.toFixed(0)} s${left})`;
    if (process.stderr.isTTY)
      process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
    else if (now - this.#saidAt >= BETWEEN_LINES_MS) {
      this.#saidAt = now;
      process.stderr.write(`${line}\n`);
    }
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }
}

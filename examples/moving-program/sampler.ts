/** How much had been carried, each 5 ms. */
const INTERVAL_MS = 5;

/** The clock of all processes of this machine, milliseconds. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

export class Sampler {
  readonly #samples: [number, number][] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(bytes: () => number) {
    this.#timer = setInterval(() => this.#samples.push([now(), bytes()]), INTERVAL_MS);
    this.#timer.unref();
  }

  /** Time and bytes until then. */
  stop(): readonly [number, number][] {
    clearInterval(this.#timer);
    return this.#samples;
  }
}

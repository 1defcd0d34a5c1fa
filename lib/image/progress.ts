/** How far a conversion between an image and a QEMU stream has come. */
export interface ImageProgress {
  readonly phase: 'setup' | 'ram' | 'device-state' | 'commit';
  /** Bytes of RAM done: pages times page size, including zero pages. Never above total, though a running VM's stream may hold a page twice. */
  readonly done: bigint;
  /** Bytes of RAM; 0 until the stream has given it. */
  readonly total: bigint;
  /** Bytes of the stream read or written. */
  readonly streamBytes: bigint;
}

/** Called when the phase changes and for every MiB of the stream. */
export type OnProgress = (progress: ImageProgress) => void;

/** Bytes of stream between two reports of the same phase: at memory speed some thousand reports a second. */
const REPORT_EVERY = 1n << 20n;

/** Calls `onProgress` when the phase changes and for every MiB of the stream. */
export class ProgressMeter {
  readonly #report: OnProgress | undefined;
  #last: ImageProgress | undefined;

  constructor(report: OnProgress | undefined) {
    this.#report = report;
  }

  update(progress: ImageProgress): void {
    const last = this.#last;
    const news = last?.phase !== progress.phase || progress.streamBytes - last.streamBytes >= REPORT_EVERY;
    if (this.#report === undefined || !news) return;
    const excess = progress.done > progress.total;
    this.#last = excess ? { ...progress, done: progress.total } : progress;
    this.#report(this.#last);
  }
}

import { timeoutError, unlessAborted, type WaitLimits } from './wait.ts';

/**
 * Bytes a second that a peer must move while it is waited for. One below it would take twelve days for 1 GiB. The software RNIC holds
 * messages to the same (native/fabric/progress_watch.h).
 */
export const LEAST_RATE = 1024;

/** Whether what is counted goes on, fast enough to be waited for: a byte now and then is no progress. Times are milliseconds. */
export class ProgressWatch {
  readonly #windowMs: number;
  readonly #excused: () => number;
  readonly #floor: bigint;
  readonly #count: () => bigint;
  readonly #now: () => number;
  #since: number;
  #before: bigint;
  #excusedBefore: number;

  /**
   * `windowMs`: the longest time without progress. `count`: bytes so far, never less than before. `excused`: of the time so far, what counts for
   * nothing, as while a link is lost.
   */
  constructor(
    windowMs: number,
    count: () => bigint,
    excused: () => number = () => 0,
    now: () => number = () => performance.now(),
  ) {
    this.#windowMs = windowMs;
    this.#excused = excused;
    this.#floor = BigInt(Math.max(1, Math.floor((windowMs * LEAST_RATE) / 1000)));
    this.#count = count;
    this.#now = now;
    this.#since = now();
    this.#before = count();
    this.#excusedBefore = excused();
  }

  /** Time without progress that counts. */
  get #idleMs(): number {
    return this.#now() - this.#since - (this.#excused() - this.#excusedBefore);
  }

  /** When to look: the end of the window, but often enough that the end of a peer's progress is noticed soon after one. */
  get nextLookMs(): number {
    const left = this.#windowMs - this.#idleMs;
    return Math.max(1, Math.min(left, this.#windowMs / 4));
  }

  /** True: for a whole window less has moved than {@link LEAST_RATE} asks for. */
  stalled(): boolean {
    const count = this.#count();
    if (count - this.#before >= this.#floor) {
      this.#since = this.#now();
      this.#before = count;
      this.#excusedBefore = this.#excused();
    }
    return this.#idleMs >= this.#windowMs;
  }
}

/**
 * Waits for `done` for as long as what `count` says goes on, at {@link LEAST_RATE} at least. `excused`: see {@link ProgressWatch}.
 * @throws MigrationError TIMEOUT after a window of `timeoutMs` without; the signal's reason (CANCELLED) when it aborts; what `done` fails with
 */
export async function whileItMoves(
  done: Promise<unknown>,
  limits: WaitLimits,
  count: () => bigint,
  excused?: () => number,
): Promise<void> {
  const watch = new ProgressWatch(limits.timeoutMs, count, excused);
  const arrived = done.then(() => true as const);
  arrived.catch(() => {}); // told below, unless the wait ends before
  while (!(await comes(arrived, watch.nextLookMs, limits))) {
    if (watch.stalled()) throw timeoutError(limits);
  }
}

/** Whether it comes within that time. */
async function comes(
  arrived: Promise<true>,
  timeoutMs: number,
  { signal, phase }: WaitLimits,
): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await unlessAborted(Promise.race([arrived, late]), signal, phase);
  } finally {
    clearTimeout(timer);
  }
}

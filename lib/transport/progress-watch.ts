import { timeoutError, unlessAborted, type WaitLimits } from './wait.ts';

/**
 * Bytes a second that a peer must move while it is waited for. One below it would take twelve days for 1 GiB. The software RNIC holds
 * messages to the same (native/fabric/progress_watch.h).
 */
export const LEAST_RATE = 1024;

/** Whether what is counted goes on, fast enough to be waited for: a byte now and then is no progress. Times are milliseconds. */
export class ProgressWatch {
  readonly #windowMs: number;
  readonly #floor: bigint;
  readonly #count: () => bigint;
  readonly #now: () => number;
  #since: number;
  #before: bigint;

  /** `windowMs`: the longest time without progress. `count`: bytes so far, never less than before. */
  constructor(windowMs: number, count: () => bigint, now: () => number = () => performance.now()) {
    this.#windowMs = windowMs;
    this.#floor = BigInt(Math.max(1, Math.floor((windowMs * LEAST_RATE) / 1000)));
    this.#count = count;
    this.#now = now;
    this.#since = now();
    this.#before = count();
  }

  /** When to look: the end of the window, but often enough that the end of a peer's progress is noticed soon after one. */
  get nextLookMs(): number {
    const left = this.#since + this.#windowMs - this.#now();
    return Math.max(1, Math.min(left, this.#windowMs / 4));
  }

  /** True: for a whole window less has moved than {@link LEAST_RATE} asks for. */
  stalled(): boolean {
    const count = this.#count();
    if (count - this.#before >= this.#floor) {
      this.#since = this.#now();
      this.#before = count;
    }
    return this.#now() - this.#since >= this.#windowMs;
  }
}

/**
 * Waits for `done` for as long as what `count` says goes on, at {@link LEAST_RATE} at least.
 * @throws MigrationError TIMEOUT after a window of `timeoutMs` without; the signal's reason (CANCELLED) when it aborts; what `done` fails with
 */
export async function whileItMoves(
  done: Promise<unknown>,
  limits: WaitLimits,
  count: () => bigint,
): Promise<void> {
  const watch = new ProgressWatch(limits.timeoutMs, count);
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

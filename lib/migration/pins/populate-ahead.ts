import type { NativeMapping } from '../../native/memory.ts';
import type { Span } from '../../ram/spans.ts';

/**
 * Bytes touched that no WRITE has followed yet. Registering promises nothing: a source that registers all RAM and writes none would otherwise
 * fill the disk. Large enough that four steps are under way while the WRITEs of the wire follow.
 */
export const AHEAD_BYTES = 64n << 20n;
const STEP_BYTES = 16n << 20n;
/** Steps at one time: the kernel clears pages on as many threads. */
const LANES = 4;
/** How soon it is seen that WRITEs have come: they tell nobody. */
const LOOK_MS = 10;

type Populated = Pick<NativeMapping, 'populate'>;

interface Wanted {
  readonly mapping: Populated;
  readonly span: Span;
  /** Bytes of the span that have been touched or are being. */
  done: bigint;
}

export interface PopulateAheadOptions {
  /** Bytes that WRITEs have placed so far, wherever. */
  readonly placed: () => bigint;
  /** Hears of memory that cannot be had. */
  readonly onFailure: (error: unknown) => void;
  /** Ends it: nothing is touched afterwards. */
  readonly signal: AbortSignal;
}

/**
 * Touches registered memory in the background, ahead of the WRITEs, in the order of the registrations: never more than
 * {@link AHEAD_BYTES} beyond what WRITEs have placed, and never so much that a file system runs out of room by it.
 */
export class PopulateAhead {
  readonly #options: PopulateAheadOptions;
  readonly #running = new Set<Promise<void>>();
  #queue: Wanted[] = [];
  #touched = 0n;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PopulateAheadOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => this.#stop(), { once: true });
  }

  add(mapping: Populated, span: Span): void {
    if (this.#options.signal.aborted) return;
    this.#queue.push({ mapping, span, done: 0n });
    this.#pump();
  }

  /** They are registered no more: what they were to get has come, or never will. The same objects as were added. */
  drop(spans: ReadonlySet<Span>): void {
    this.#queue = this.#queue.filter(({ span }) => !spans.has(span));
  }

  /** Ends it, and waits until nothing is touched any more. */
  async end(): Promise<void> {
    this.#stop();
    await Promise.allSettled([...this.#running]);
  }

  #stop(): void {
    this.#queue = [];
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #pump(): void {
    for (let next = this.#queue[0]; next && this.#running.size < LANES; next = this.#queue[0]) {
      const length = smaller(STEP_BYTES, next.span.length - next.done);
      if (this.#touched + length > this.#options.placed() + AHEAD_BYTES) {
        this.#lookAgain();
        return;
      }
      this.#touched += length;
      this.#start(next.mapping, next.span.offset + next.done, length);
      next.done += length;
      if (next.done === next.span.length) this.#queue.shift();
    }
  }

  #lookAgain(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#pump();
    }, LOOK_MS).unref();
  }

  #start(mapping: Populated, offset: bigint, length: bigint): void {
    const step = mapping
      .populate(offset, length, true)
      .catch(this.#options.onFailure)
      .finally(() => {
        this.#running.delete(step);
        this.#pump();
      });
    this.#running.add(step);
  }
}

const smaller = (left: bigint, right: bigint): bigint => (left < right ? left : right);

/** Plays the cases of one target, in this thread. */
import { performance } from 'node:perf_hooks';
import { CASE_MS, caseRandom, SHORT_RUN, type Target } from './target.ts';

export interface Failure {
  /** -1: in no single one. */
  readonly case: number;
  readonly message: string;
}

export interface Report {
  readonly name: string;
  readonly seed: number;
  readonly cases: number;
  /** Of native targets: frames, or records. */
  readonly frames?: number;
  readonly seconds: number;
  readonly hits: Readonly<Record<string, number>>;
  readonly failures: readonly Failure[];
  /** Bytes of the heap that are in use at the end, beyond those after the warm-up. Absent: too short a run to say. */
  readonly grown?: number;
}

export interface Plan {
  readonly seed: number;
  readonly first: number;
  readonly most: number;
  /** Of {@link performance.now}. */
  readonly until: number;
  /** Aborted: the case in hand is the last one. */
  readonly signal?: AbortSignal;
}

/** After so many findings of one target, more say little. */
const MOST_FAILURES = 20;
const WARM_UP = 2000;
/** What caches and the tally may take in a long run. */
const MOST_GROWTH = 48 << 20;

/** `begins`: told of each case before it is played, so that one that never ends has a number. */
export async function runTarget(
  target: Target,
  plan: Plan,
  begins: (index: number) => void,
): Promise<Report> {
  await using _opened = await target.open?.();
  const run = new Run(target, plan.seed);
  for (let index = plan.first; index < plan.first + plan.most && performance.now() < plan.until; index++) {
    begins(index);
    await run.play(index);
    if (run.failures.length >= MOST_FAILURES || plan.signal?.aborted) break;
  }
  return run.report();
}

class Run {
  readonly failures: Failure[] = [];
  readonly #target: Target;
  readonly #seed: number;
  readonly #began = performance.now();
  readonly #hits = new Map<string, number>();
  #cases = 0;
  #warm: number | undefined;

  constructor(target: Target, seed: number) {
    this.#target = target;
    this.#seed = seed;
  }

  async play(index: number): Promise<void> {
    const { name, caseMs = CASE_MS } = this.#target;
    const began = performance.now();
    try {
      await this.#target.play(caseRandom(this.#seed, name, index), (what) =>
        this.#hits.set(what, (this.#hits.get(what) ?? 0) + 1),
      );
    } catch (error) {
      this.failures.push({ case: index, message: textOf(error) });
    }
    const took = performance.now() - began;
    if (took > caseMs) this.failures.push({ case: index, message: `took ${Math.round(took)} ms` });
    this.#cases += 1;
    if (this.#cases === WARM_UP) this.#warm = used();
    // Node runs timers and takes in what promises hold only between turns.
    if (this.#cases % 256 === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  #requireReached(): void {
    for (const what of this.#target.reaches)
      if (!this.#hits.has(what)) this.failures.push({ case: -1, message: `never reached: ${what}` });
  }

  report(): Report {
    const grown = this.#cases > 5 * WARM_UP ? growth(this.#warm, used()) : undefined;
    if (grown !== undefined && grown > MOST_GROWTH)
      this.failures.push({ case: -1, message: `memory has grown by ${grown} bytes since case ${WARM_UP}` });
    if (this.#cases >= (this.#target.shortRun ?? SHORT_RUN)) this.#requireReached();
    return {
      name: this.#target.name,
      seed: this.#seed,
      cases: this.#cases,
      seconds: (performance.now() - this.#began) / 1000,
      hits: Object.fromEntries([...this.#hits].sort(([left], [right]) => left.localeCompare(right))),
      failures: this.failures,
      ...(grown !== undefined && { grown }),
    };
  }
}

const growth = (before: number | undefined, now: number | undefined): number | undefined =>
  before === undefined || now === undefined ? undefined : now - before;

/** What is in use after a collection, where the process was started so that it can ask for one. */
function used(): number | undefined {
  if (globalThis.gc === undefined) return undefined;
  globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

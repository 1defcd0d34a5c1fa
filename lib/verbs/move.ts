/** A domain that moves to another process: its old place. The new one is in thaw.ts. */
import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { raceAbort } from '../abort.ts';
import { type MigrationError, toMigrationError } from '../errors.ts';
import type { NativeVerbsQueuePair } from '../native/verbs.ts';
import { invalid } from '../options/check.ts';
import {
  encodeAnnouncement,
  encodeDomainImage,
  type MovedOptions,
  type MovedQueuePair,
  type MovedRegion,
} from './domain-image.ts';
import { calling, cancelled } from './failure.ts';
import { checkFreeze } from './option-schema.ts';
import type { FreezeOptions, MoveOptions } from './options.ts';

const LONGEST_PAUSE_MS = 10_000;
const DRAIN_MS = 1000;

/** A queue pair of the domain, as the domain knows it. */
export interface Movable {
  readonly native: NativeVerbsQueuePair;
  readonly options: MovedOptions;
}

/** What the domain hands over. */
export interface Mover {
  readonly queuePairs: readonly Movable[];
  /** As of now: more may be registered until it is frozen. */
  readonly regions: () => readonly MovedRegion[];
  /** Nothing of it is left. */
  readonly close: () => Promise<void>;
  /** It goes on, and may move another time. */
  readonly stay: () => void;
}

type Step = 'preparing' | 'prepared' | 'freezing' | 'frozen' | 'committed' | 'aborted';

let prepare: (mover: Mover, options: MoveOptions) => Promise<Move>;

/**
 * A move of a domain's queue pairs that has been prepared: `domain.prepareMove()`. Freeze it when its memory is about to be the new place's; then
 * commit it or abort it. docs/moving-connections.md has the whole.
 */
export class Move {
  readonly #mover: Mover;
  readonly #longestPauseMs: number;
  #step: Step = 'preparing';

  static {
    prepare = async (mover, options) => {
      const move = new Move(mover, options);
      await move.#prepare(options);
      return move;
    };
  }

  private constructor(mover: Mover, options: MoveOptions) {
    this.#mover = mover;
    this.#longestPauseMs = options.longestPauseMs ?? LONGEST_PAUSE_MS;
  }

  async #prepare({ to, ahead = true, announce, signal }: MoveOptions): Promise<void> {
    const plan = {
      id: randomBytes(16),
      to: Array.isArray(to) ? to : [to],
      longestPauseMs: this.#longestPauseMs,
      ahead,
    };
    try {
      const all = Promise.all(this.#mover.queuePairs.map(({ native }) => native.prepareMove(plan)));
      all.catch(() => {}); // told of below
      await Promise.race([all, turn()]); // one that cannot move says so at once
      // The peers have begun to look for the new place, and do so until it has heard of them.
      await raceAbort(Promise.resolve(announce?.(this.#announcement())), signal, () => given(signal));
      await raceAbort(all, signal, () => given(signal));
      this.#step = 'prepared';
    } catch (cause) {
      await this.#giveUp();
      throw toMigrationError(cause, 'verbs');
    }
  }

  #announcement(): Uint8Array {
    return encodeAnnouncement(
      this.#mover.queuePairs.map(({ native, options }) => ({
        options,
        bytes: calling('verbs', () => native.announcement()),
      })),
    );
  }

  /**
   * Stops both directions of every queue pair, and gives the image for `thaw()` at the new place. Until `commit()` or `abort()` nothing can be
   * posted, and nothing is placed in the domain's regions. What is under way after `drainMs` is sent again at the new place. A peer waits for
   * `longestPauseMs` from here on. The image is secret.
   * @throws MigrationError TIMEOUT (a peer takes nothing: the move has been aborted, and all goes on here), CONNECTION_LOST, INVALID_ARGUMENT
   */
  async freeze(options: FreezeOptions = {}): Promise<Uint8Array> {
    checkFreeze(options);
    const { drainMs = DRAIN_MS } = options;
    this.#expect('prepared');
    this.#step = 'freezing';
    const live = new Set(this.#mover.queuePairs);
    try {
      await Promise.all(
        this.#mover.queuePairs.map(async (each) => {
          try {
            await each.native.stopForMove(drainMs);
          } catch (cause) {
            if (!hasEnded(each)) throw cause;
            live.delete(each);
          }
        }),
      );
      const queuePairs = this.#mover.queuePairs.map((each) => (live.has(each) ? frozen(each) : null));
      const image = encodeDomainImage({
        longestPauseMs: this.#longestPauseMs,
        regions: this.#mover.regions(),
        queuePairs,
      });
      this.#step = 'frozen';
      return image;
    } catch (cause) {
      await this.#giveUp();
      throw toMigrationError(cause, 'verbs');
    }
  }

  /** The new place has it all: the domain is closed here, and no peer hears a word. Never before the new place can go on. */
  async commit(): Promise<void> {
    this.#expect('frozen');
    this.#step = 'committed';
    for (const each of this.#mover.queuePairs) {
      if (!hasEnded(each)) calling('verbs', () => each.native.commitMove());
    }
    await this.#mover.close();
  }

  /**
   * It stays: every peer is asked to go on with this place. Right at any time before `commit()`, and the way to learn who has it when nobody knows
   * whether the new place has taken over.
   * @throws MigrationError ALREADY_MOVED (a peer has gone on with the new place: this one must not), TIMEOUT (a peer says nothing: nobody knows)
   */
  async abort(): Promise<void> {
    if (this.#step === 'aborted') return;
    if (this.#step === 'committed') throw invalid('this move is over: the new place has it all');
    const failed = await this.#giveUp();
    const worst = ['ALREADY_MOVED', 'TIMEOUT'].map((code) => failed.find((each) => each.code === code));
    for (const error of worst) if (error !== undefined) throw error;
  }

  /** What became of those that cannot go on, or may not. One that has ended for another reason has told so itself. */
  async #giveUp(): Promise<MigrationError[]> {
    this.#step = 'aborted';
    const outcomes = await Promise.allSettled(this.#mover.queuePairs.map(({ native }) => native.abortMove()));
    this.#mover.stay();
    return outcomes.flatMap((each) =>
      each.status === 'rejected' ? [toMigrationError(each.reason, 'verbs')] : [],
    );
  }

  #expect(step: Step): void {
    if (this.#step !== step)
      throw invalid(`this step of a move is not due: it is ${this.#step}, and should be ${step}`);
  }
}

/** For {@link Domain.prepareMove}. */
export const prepareMove: typeof prepare = (...given) => prepare(...given);

const hasEnded = ({ native }: Movable): boolean => native.state === 'ERROR';

function frozen({ native, options }: Movable): MovedQueuePair {
  return { options, bytes: calling('verbs', () => native.freeze()) };
}

const given = (signal: AbortSignal | undefined): MigrationError => cancelled(signal, 'verbs', 'the move');

import { toMigrationError } from '../../errors.ts';
import type { NativeTracker } from '../../native/dirty.ts';
import type { DirtyTracker, PageBitmap, PageDigests, TrackerKind } from '../tracker.ts';
import type { ChosenKind } from './choose.ts';

/** A tracker of the addon with the library's errors. */
export class RamTracker implements DirtyTracker {
  readonly kind: TrackerKind;
  /** Why this kind: for logs and results. */
  readonly reason: string;
  /** hash only. */
  readonly sent?: readonly PageDigests[];
  readonly #native: NativeTracker;

  /** Made by {@link trackDirty}. @internal */
  constructor({ kind, reason }: ChosenKind, native: NativeTracker) {
    this.kind = kind;
    this.reason = reason;
    this.#native = native;
    if (native.sent.length > 0) this.sent = native.sent;
  }

  /** How long the last collect stopped the guest, in milliseconds; 0 except for soft-dirty. */
  get lastPauseMs(): number {
    return this.#native.lastPauseMs;
  }

  start(): Promise<void> {
    return this.#native.start().catch(rethrow);
  }

  collect(bitmaps: readonly PageBitmap[]): Promise<bigint> {
    return this.#native.collect(bitmaps).catch(rethrow);
  }

  async stop(): Promise<void> {
    await this.#native.stop().catch(() => {}); // fails only while the environment is being torn down
  }

  /** The same as `stop`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function rethrow(error: unknown): never {
  throw toMigrationError(error, 'ram');
}

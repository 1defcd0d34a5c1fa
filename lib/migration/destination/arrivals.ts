import type { ProgressAccount } from '../../protocol/progress.ts';
import type { Span } from '../../ram/spans.ts';
import type { Connection } from '../../transport/connection.ts';
import type { BytesEvent, PinEvent, ZeroEvent } from '../events.ts';
import type { Gauge } from '../journal.ts';
import type { Registrations } from '../pins/registrations.ts';

/** A device places WRITEs without a word. */
export const tellsWrites = ({ info }: Connection): boolean => info.provider === 'iwarp';

export interface ArrivalsOptions {
  /** Bytes that WRITEs have placed; undefined: the provider does not tell. */
  readonly placed: (() => bigint) | undefined;
  /** The source passes over zeros without a word in its first pass. */
  readonly sparse: boolean;
  readonly pins: () => Pick<Registrations, 'bytes' | 'peak'> | undefined;
}

/**
 * What a destination learns of the RAM that comes: WRITEs that are placed, where the provider tells of them, and otherwise the source's messages.
 *
 * A source asks for keys in the order in which it goes over RAM. So in the pass over all RAM what lies between two registrations holds
 * nothing but zeros, if the source is one that passes over them; and where WRITEs are not seen, those of a registration have come when the
 * source asks for the next one, or ends its pass. A source that says PROGRESS knows better, and only it knows what is in a registered span.
 */
export class Arrivals implements Gauge {
  readonly #options: ArrivalsOptions;
  /** Where each block begins, if they stood one after the other. */
  #begins: readonly bigint[] = [];
  #total = 0n;
  #control = 0;
  #told = 0n;
  /** Zeros that nothing was said of. */
  #passed = 0n;
  #mostZeros = 0n;
  /** As far as the first pass has come, and what has been registered in all. */
  #frontier = 0n;
  #registered = 0n;
  #implied = 0n;
  #firstPass = true;
  /** The source's own word, the last one. */
  #account: ProgressAccount | undefined;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
  }

  /** The source has told what RAM it has. */
  blocks(lengths: readonly bigint[]): void {
    let end = 0n;
    this.#begins = lengths.map((length) => {
      const begin = end;
      end += length;
      return begin;
    });
    this.#total = end;
  }

  /** Bytes of the stream around RAM have come. */
  stream(bytes: number): void {
    this.#control += bytes;
  }

  /** One request for keys. */
  registered(spans: readonly { readonly index: number; readonly span: Span }[]): void {
    if (!this.#account) this.#implied = this.#registered;
    for (const { index, span } of spans) {
      this.#registered += span.length;
      this.#goTo((this.#begins[index] ?? 0n) + span.offset, span.length);
    }
  }

  /** The source has told that it is zero. */
  zeros(length: bigint): void {
    this.#told += length;
  }

  /** The source has told how far it is. Only what is shown hangs on it, so it is not held against what has come. */
  told(account: ProgressAccount): void {
    this.#account = account;
    const passed = BigInt(account.zero) - this.#told;
    if (this.#options.sparse && passed > this.#passed) this.#passed = passed;
    if (BigInt(account.content) > this.#implied) this.#implied = BigInt(account.content);
  }

  /** Everything of this pass has come. */
  passEnds(): void {
    if (!this.#account) this.#implied = this.#registered;
    if (this.#firstPass && this.#options.sparse) this.#settle();
    this.#account = undefined;
    this.#firstPass = false;
  }

  read(): readonly (BytesEvent | ZeroEvent | PinEvent)[] {
    const { placed, pins } = this.#options;
    // What was registered in an earlier pass tells nothing of a later one.
    const registered = this.#firstPass ? Number(this.#registered) : 0;
    const { foundContent = registered, foundZero } = this.#account ?? {};
    const content = Number(placed?.() ?? 0n);
    const zeros = Number(this.#zeros());
    const { bytes = 0n, peak = 0n } = pins() ?? {};
    return [
      { type: 'zero', bytes: zeros, skipped: zeros - Number(this.#told), found: foundZero ?? zeros },
      {
        type: 'bytes',
        content,
        implied: placed ? content : Number(this.#implied),
        control: this.#control,
        found: Math.max(content, foundContent),
      },
      { type: 'pin', registered: Number(bytes), peak: Number(peak) },
    ];
  }

  /** What was thought to be zero and is not comes as content later: until then nothing goes back. */
  #zeros(): bigint {
    const now = this.#told + this.#passed;
    if (now > this.#mostZeros) this.#mostZeros = now;
    return this.#mostZeros;
  }

  #goTo(offset: bigint, length: bigint): void {
    if (!this.#firstPass || !this.#options.sparse || this.#account) return;
    if (offset >= this.#frontier) {
      this.#passed += offset - this.#frontier;
      this.#frontier = offset + length;
    } else {
      // It goes another way, as hints can have it: this was no gap after all.
      this.#passed -= length < this.#passed ? length : this.#passed;
    }
  }

  /** All of RAM has been gone over: what was neither seen nor told was passed over. */
  #settle(): void {
    const { placed } = this.#options;
    const rest = (known: bigint): bigint => (known < this.#total ? this.#total - known : 0n);
    // The source looks at zeros ahead of what it writes: its last word of them holds, and the rest was written since.
    if (!placed && this.#account) this.#implied = rest(this.#told + this.#passed);
    else this.#passed = rest(this.#told + (placed?.() ?? this.#implied));
  }
}

import type { ProgressAccount } from '../../protocol/progress.ts';
import type { BytesEvent, PinEvent, ZeroEvent } from '../events.ts';
import type { Gauge } from '../journal.ts';
import type { SourcePins } from '../pins/source-pins.ts';

/** What a source counts. RAM's content is counted by the native writer; the rest is added to once per range or message. */
export class SentMeter implements Gauge {
  readonly #content: () => bigint;
  readonly #pins: () => Pick<SourcePins, 'bytes' | 'peak'> | undefined;
  #control = 0;
  #foundContent = 0n;
  #foundZero = 0n;
  #zero = 0n;
  #skipped = 0n;

  /** `content`: bytes of pages whose WRITEs have completed. `pins`: undefined while nothing is registered. */
  constructor(
    content: () => bigint = () => 0n,
    pins: () => Pick<SourcePins, 'bytes' | 'peak'> | undefined = () => undefined,
  ) {
    this.#content = content;
    this.#pins = pins;
  }

  /** Bytes of the stream around RAM were sent. */
  stream(bytes: number): void {
    this.#control += bytes;
  }

  /** So much RAM has been looked at: its content is to be sent, its zeros told or passed over. */
  found(content: bigint, zero: bigint): void {
    this.#foundContent += content;
    this.#foundZero += zero;
  }

  /** Zeros were dealt with; `skipped`: without a word. */
  zeros(bytes: bigint, skipped: boolean): void {
    this.#zero += bytes;
    if (skipped) this.#skipped += bytes;
  }

  /** What the destination is told. */
  get account(): Omit<ProgressAccount, 'round' | 'pending'> {
    return {
      content: Number(this.#content()),
      zero: Number(this.#zero),
      foundContent: Number(this.#foundContent),
      foundZero: Number(this.#foundZero),
    };
  }

  read(): readonly (BytesEvent | ZeroEvent | PinEvent)[] {
    const content = Number(this.#content());
    const { bytes = 0n, peak = 0n } = this.#pins() ?? {};
    return [
      {
        type: 'zero',
        bytes: Number(this.#zero),
        skipped: Number(this.#skipped),
        found: Number(this.#foundZero),
      },
      { type: 'bytes', content, implied: content, control: this.#control, found: Number(this.#foundContent) },
      { type: 'pin', registered: Number(bytes), peak: Number(peak) },
    ];
  }
}

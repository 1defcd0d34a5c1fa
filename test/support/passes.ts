/** The source of a migration with several passes, at the level of `sendRam`: what the pre-copy loop does, one step at a time. */

import { PinWindow, spanBytesFor } from '../../lib/migration/pins/pin-window.ts';
import { type SpanKeys, SpanPins } from '../../lib/migration/pins/source-pins.ts';
import type { SourceBlock } from '../../lib/migration/ram-round.ts';
import { sendRam, WINDOW_BYTES } from '../../lib/migration/source/ram-pass.ts';
import { SentMeter } from '../../lib/migration/source/sent-meter.ts';
import { native } from '../../lib/native/index.ts';
import { acceptCapabilities, requestCapabilities } from '../../lib/protocol/capabilities.ts';
import { SentDigest } from '../../lib/protocol/commit.ts';
import type { ControlMessage, DestinationBlock } from '../../lib/protocol/control.ts';
import { encodeEos, encodeFooter, encodeRamRound, encodeRamStart } from '../../lib/protocol/stream-encode.ts';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import type { HintBook } from '../../lib/ram/hint-book.ts';
import { CHUNK_BYTES } from '../../lib/ram/spans.ts';
import type { SourceVm } from '../../lib/ram/vm.ts';
import { connect } from '../../lib/transport/connect.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import { SourceTurns } from '../../lib/transport/turns.ts';

const LIMITS = { timeoutMs: 10_000, signal: new AbortController().signal };

/** Counts its messages by type. */
class CountingTurns extends SourceTurns {
  readonly counts = new Map<string, number>();

  override async send(message: ControlMessage): Promise<void> {
    this.counts.set(message.type, (this.counts.get(message.type) ?? 0) + 1);
    await super.send(message);
  }
}

export class PassSource implements AsyncDisposable {
  readonly #vm: SourceVm;
  readonly #connection: Connection;
  readonly #turns: CountingTurns;
  readonly #account: SentDigest;
  readonly #hints: HintBook | undefined;
  readonly blocks: SourceBlock[];
  readonly window: PinWindow<SpanKeys>;
  readonly #pins: SpanPins;
  #bytes = 0n;

  static async connect(
    uri: string,
    vm: SourceVm,
    options: { budget?: bigint; hints?: HintBook } = {},
  ): Promise<PassSource> {
    const offer = { pinAll: false, commit: true, sparse: true, ramBytes: 0n };
    const native = { crc: false, connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 };
    const connection = await connect('iwarp', parseRdmaUri(uri), requestCapabilities(offer), native);
    const { sparse } = acceptCapabilities(connection.privateData, offer);
    const account = new SentDigest();
    const turns = new CountingTurns(connection, LIMITS, account);
    const start = Buffer.concat([vm.before, encodeRamStart(vm.ramSection, vm.layout.blocks, 'rdma')]);
    await turns.send({ type: 'QEMU_FILE', bytes: start });
    const { blocks } = await turns.request({ type: 'RAM_BLOCKS_REQUEST' }, 'RAM_BLOCKS_RESULT');
    await turns.send({ type: 'REGISTER_FINISHED' });
    await turns.send({ type: 'QEMU_FILE', bytes: encodeEos() });
    return new PassSource(vm, { connection, turns, account }, blocks, { ...options, sparse });
  }

  private constructor(
    vm: SourceVm,
    wire: { connection: Connection; turns: CountingTurns; account: SentDigest },
    remote: readonly DestinationBlock[],
    { budget, hints, sparse }: { budget?: bigint; hints?: HintBook; sparse: boolean },
  ) {
    this.#vm = vm;
    this.#connection = wire.connection;
    this.#turns = wire.turns;
    this.#account = wire.account;
    this.#hints = hints;
    this.blocks = vm.blocks.map((block, index) => {
      const bitmap = native.createBitmap(Number(block.length / BigInt(block.mapping.pageSize)));
      bitmap.setRange(0, bitmap.pages);
      return { index, block, remote: remote[index] as DestinationBlock, bitmap, fresh: sparse };
    });
    const limits = { budget, spanBytes: spanBytesFor(budget, CHUNK_BYTES, WINDOW_BYTES, 'batched') };
    const warmth = (index: number, span: { offset: bigint; length: bigint }) =>
      hints?.temperature(vm.blocks[index]?.name ?? '', span) ?? 'normal';
    this.window = new PinWindow(
      vm.blocks.map(({ length }) => length),
      limits,
      warmth,
    );
    const { connection, turns } = wire;
    this.#pins = new SpanPins({ connection, turns, window: this.window, extended: true, sparse, ...LIMITS });
    hints?.attach(this.blocks, false);
  }

  /** Messages of a type so far. */
  sent(type: ControlMessage['type']): number {
    return this.#turns.counts.get(type) ?? 0;
  }

  async pass(kind: 'part' | 'end') {
    const { ramSection } = this.#vm;
    await this.#stream(Buffer.concat([encodeFooter(ramSection), encodeRamRound(ramSection, kind)]));
    const result = await sendRam({
      connection: this.#connection,
      turns: this.#turns,
      blocks: this.blocks,
      pins: this.#pins,
      ...(this.#hints && { hints: this.#hints }),
      meter: new SentMeter(),
      ...LIMITS,
      shortWindows: true,
      last: kind === 'end',
    });
    await this.#turns.send({ type: 'REGISTER_FINISHED' });
    await this.#stream(encodeEos());
    this.#bytes += result.bytes;
    return result;
  }

  /** The device state and the commit. */
  async finish(): Promise<void> {
    await this.#stream(encodeFooter(this.#vm.ramSection));
    for await (const bytes of this.#vm.after()) await this.#stream(bytes);
    await this.#turns.ready();
    const commit = this.#account.commit(this.#bytes, undefined);
    const { status } = await this.#turns.request({ type: 'COMMIT', ...commit }, 'COMMITTED');
    if (status !== 'OK') throw new Error(`COMMITTED ${status}`);
    await this.#connection.disconnect(2_000);
  }

  async #stream(bytes: Uint8Array): Promise<void> {
    await this.#turns.send({ type: 'QEMU_FILE', bytes });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
    await this.#pins.close();
    this.#hints?.detach();
  }
}

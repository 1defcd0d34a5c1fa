/** A pass with hints over several channels: what is written later lands later. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { mapMemfd, type RamBlock } from '../../lib/index.ts';
import type { SourceBlock } from '../../lib/migration/ram-round.ts';
import { type RamPassOptions, sendRam } from '../../lib/migration/source/ram-pass.ts';
import { SentMeter } from '../../lib/migration/source/sent-meter.ts';
import { native } from '../../lib/native/index.ts';
import type { NativeRuns } from '../../lib/native/memory.ts';
import type { NativeWriteJob } from '../../lib/native/transport.ts';
import type { Temperature } from '../../lib/ram/hint-book.ts';
import { runs, type Span } from '../../lib/ram/spans.ts';
import { noise, PAGE, poke } from '../support/memory-vm.ts';

const LENGTH = 48n * PAGE;
const PART = 16n * PAGE;
const SPANS: Record<Temperature, bigint> = { cold: 0n, normal: PART, hot: 2n * PART };

/** What happens in the last pass: `write` and `written` with the offset, `barrier`. A hint sets the first pages again in the first round. */
async function lastPass(channels: number, hinted: boolean): Promise<string[]> {
  const log: string[] = [];
  const mapping = await mapMemfd({ name: 'order', length: LENGTH });
  const ram = { name: 'pc.ram', length: LENGTH, mapping } as RamBlock;
  await poke(ram, 0n, noise(LENGTH));
  const bitmap = native.createBitmap(Number(LENGTH / PAGE));
  bitmap.setRange(0, Number(LENGTH / PAGE));
  let written = 0;
  const connection = {
    rails: {
      channels,
      async barrier() {
        log.push('barrier');
      },
    },
    async write({ spans }: NativeWriteJob) {
      const [{ offset, length }] = [...runs(spans)] as [Span];
      const at = Number(offset / PAGE);
      log.push(`write ${at}`);
      bitmap.clearRange(at, Number(length / PAGE));
      await delay(5);
      log.push(`written ${at}`);
      if (hinted && ++written === 3) bitmap.setRange(0, 1);
      return { pages: length / PAGE, bytes: length };
    },
  };
  const hints = {
    hasFreed: false,
    takeFreed: (): Span[] => [],
    spans: (_: RamBlock, temperature: Temperature): Span[] => [{ offset: SPANS[temperature], length: PART }],
  };
  const pins = {
    async *ready(_: unknown, spans: NativeRuns) {
      if (spans.length > 0) yield { spans, keys: Uint32Array.of(1, 2), writtenBy: () => {} };
    },
  };
  const block = { block: ram, index: 0, bitmap, fresh: false, remote: { hostAddress: 0n, offset: 0n } };
  await sendRam({
    blocks: [block as unknown as SourceBlock],
    turns: { send: async () => {}, ready: async () => {} },
    meter: new SentMeter(),
    signal: new AbortController().signal,
    timeoutMs: 1_000,
    last: true,
    connection,
    pins,
    ...(hinted && { hints }),
  } as unknown as RamPassOptions);
  await mapping.close();
  return log;
}

it('ends what is under way between the temperatures, and before RAM is gone over again', async () => {
  expect(await lastPass(2, true)).toEqual([
    ...['write 0', 'written 0', 'barrier'],
    ...['write 16', 'written 16', 'barrier'],
    ...['write 32', 'written 32', 'barrier'],
    ...['write 0', 'written 0', 'barrier', 'barrier'],
  ]);
});

it('waits for nothing over one channel, which keeps its order, or without hints', async () => {
  expect(await lastPass(1, true)).not.toContain('barrier');
  expect(await lastPass(2, false)).toEqual(['write 0', 'written 0']);
});

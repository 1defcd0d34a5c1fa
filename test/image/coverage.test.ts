/** A stream is called whole only if it accounted for every page of every block. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { fromQemu, inspect } from '../../lib/image/index.ts';
import { chunks, contentOf, type Page, RAM, ROM, smallStream } from './stream.ts';
import { counted, deviceState, expectError, namesIn, PAGE, temporaryFolder, u32 } from './support.ts';

const EVERY_PAGE: readonly Page[] = [
  { block: RAM, page: 0, fill: 0xa5 },
  { block: RAM, page: 1 },
  { block: RAM, page: 2, fill: 0x17 },
  { block: RAM, page: 3 },
  { block: ROM, page: 0 },
  { block: ROM, page: 1, fill: 0x5a },
];
/** What a balloon writes into its device's body once its guest tells it of free pages. */
const FREE_PAGE_HINT = Buffer.concat([
  Buffer.of(0x05),
  counted('virtio-balloon-device/free-page-report'),
  u32(1),
  u32(7),
  u32(0),
]);

/** Device state of a VM whose guest tells free pages. */
function hinted(): Buffer {
  const state = deviceState();
  const body = state.indexOf('state of timer');
  return Buffer.concat([state.subarray(0, body), FREE_PAGE_HINT, state.subarray(body)]);
}

const without = (...left: readonly number[]): Page[] =>
  EVERY_PAGE.filter((_page, index) => !left.includes(index));

describe('pages that a stream leaves out', () => {
  it.each(EVERY_PAGE.map((page, index) => ({ ...page, index })))(
    'are noticed: page $page of $block',
    async ({ block, page, index }) => {
      await using folder = await temporaryFolder();
      const reading = fromQemu(chunks(smallStream({ pages: without(index) })), folder.at('vm'));
      const says = [`for 1 of the ${block === RAM ? 4 : 2} pages`, block, `byte ${page * PAGE}`, 'multifd'];
      const error = await expectError(reading, 'STREAM_TRUNCATED', ...says);
      expect(error.details).toEqual({ missingPages: 1n, blocks: block });
      expect(await namesIn(folder.path)).toEqual([]);
    },
  );

  it('are those of multifd when only zeros are told, as QEMU 7.2 does', async () => {
    await using folder = await temporaryFolder();
    const zeros = EVERY_PAGE.filter(({ fill }) => fill === undefined);
    const reading = fromQemu(chunks(smallStream({ pages: zeros })), folder.at('vm'));
    const error = await expectError(
      reading,
      'STREAM_TRUNCATED',
      'no page with content',
      'multifd',
      '1 other block',
    );
    expect(error.details).toEqual({ missingPages: 3n, blocks: `${RAM}, ${ROM}` });
  });

  it('are all when nothing is told', async () => {
    await using folder = await temporaryFolder();
    const reading = fromQemu(chunks(smallStream({ pages: [] })), folder.at('vm'));
    await expectError(reading, 'STREAM_TRUNCATED', 'for 4 of the 4 pages', 'multifd');
  });

  it('are noticed although another page was sent twice', async () => {
    await using folder = await temporaryFolder();
    const pages = [...without(2), { block: RAM, page: 0, fill: 1 }];
    for (const addresses of [undefined, [0n, 0n]]) {
      const stream = smallStream({ pages, ...(addresses && { addresses }) });
      await expectError(fromQemu(chunks(stream), folder.at('vm')), 'STREAM_TRUNCATED', RAM);
    }
  });

  it('are not excused by --accept-unproven', async () => {
    await using folder = await temporaryFolder();
    const after = deviceState();
    const stream = smallStream({ pages: without(2), after: after.subarray(0, after.lastIndexOf(0x06)) });
    const reading = fromQemu(chunks(stream), folder.at('vm'), { acceptUnproven: true });
    await expectError(reading, 'STREAM_TRUNCATED', 'did not account for 1 of');
  });

  it.each([
    ['a guest that reports its free pages', hinted(), /free-page-hint/],
    ['a virtio-mem device', deviceState(['timer', '0000:00:02.0/virtio-mem']), /virtio-mem/],
  ])('may be gaps with %s: the result does not say whole', async (_what, after, reason) => {
    await using folder = await temporaryFolder();
    const pages = without(1, 2);
    const result = await fromQemu(chunks(smallStream({ pages, after })), folder.at('vm'));
    expect(result.coverage).toEqual({
      state: 'with-gaps',
      missing: 2 * PAGE,
      reason: expect.stringMatching(reason),
    });
    expect((await readFile(folder.at('vm/ram-0.bin'))).equals(contentOf(RAM, 4, pages))).toBe(true);
    expect((await inspect(folder.at('vm'))).provenance.coverage).toBe('with-gaps');
  });

  it('are no gaps of such a guest when no page has content', async () => {
    await using folder = await temporaryFolder();
    const zeros = EVERY_PAGE.filter(({ fill }) => fill === undefined);
    const reading = fromQemu(chunks(smallStream({ pages: zeros, after: hinted() })), folder.at('vm'));
    await expectError(reading, 'STREAM_TRUNCATED', 'multifd');
  });

  it('are not looked for in vain: a VM whose guest could leave some out may be whole', async () => {
    await using folder = await temporaryFolder();
    const result = await fromQemu(chunks(smallStream({ after: hinted() })), folder.at('vm'));
    expect(result.coverage).toEqual({ state: 'whole', missing: 0 });
    expect((await inspect(folder.at('vm'))).provenance.coverage).toBeUndefined();
  });
});

/** The destination's side of captured migrations between stock QEMUs, replayed against our source. */
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { fromQemu, MigrationSource, openImage } from '../../lib/index.ts';
import { eos, footer, header, hook } from '../protocol/streams.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { ScriptedDestination } from '../support/scripted-destination.ts';
import { asyncOf, fingerprint, plainStream, sourceFails } from '../support/sending.ts';
import { temporaryFolder } from '../support/temp.ts';
import { announced, blockOf, messages, type TraceLine, trace, traceStream } from './trace.ts';

const PAGE = 4096;
const folder = await temporaryFolder();
afterAll(() => folder[Symbol.asyncDispose]());

/** An image with the capture's machine, blocks and device state, and content where the capture's source wrote. */
async function imageOf(name: string, lines: readonly TraceLine[]): Promise<string> {
  const { before, names, deviceState } = traceStream(lines);
  const there = announced(lines);
  const blocks = names.map((block, index) => ({ name: block, length: there[index]?.length ?? 0n }));
  const pages = blocks.map(() => new Set<number>());
  for (const line of lines) {
    if (line.op !== 'write') continue;
    const index = blockOf(there, line.to);
    const first = Number(line.to - (there[index]?.address ?? 0n)) / PAGE;
    for (let page = first; page < first + line.length / PAGE; page++) pages[index]?.add(page);
  }
  const content = blocks.map((block, index) => ({
    block: block.name,
    pages: [...(pages[index] ?? [])].sort((a, b) => a - b),
  }));
  const path = join(folder.path, name);
  await fromQemu(asyncOf(plainStream({ before, blocks, deviceState, content })), path);
  return path;
}

/** What our source must have said in all: the capture's stream without its PARTs. */
function expectedStream(lines: readonly TraceLine[]): Buffer {
  const { before, start, deviceState } = traceStream(lines);
  const end = [eos(), footer(), header(3), hook(), eos(), footer()];
  return Buffer.concat([before, start, ...end, deviceState]);
}

/** The types of the source's messages up to the one that begins the RAM pass: the second HOOK. */
function upToRam(types: readonly string[]): readonly string[] {
  const finished = types.indexOf('REGISTER_FINISHED');
  return types.slice(0, finished + 3);
}

describe.each(['pin-all', 'dynamic', 'running'])('the destination of %s.jsonl', (name) => {
  it('gets the whole VM from our source, which keeps every rule on the way', async () => {
    const lines = trace(name);
    const path = await imageOf(name, lines);
    const untouched = await fingerprint(path);
    const [result] = messages(lines, 'dest', 'RAM_BLOCKS_RESULT');
    const pinAll = name === 'pin-all';
    const destination = new ScriptedDestination({
      blocks: announced(lines),
      blocksResult: result?.data as Buffer,
      rkeys: messages(lines, 'dest', 'REGISTER_RESULT').map(({ data }) => data.readUInt32BE(0)),
      pinAll,
    });
    await using listener = await RawListener.open();
    const served = destination.serve(listener);
    served.catch(() => {});
    await using vm = await openImage(path);
    const sent = new MigrationSource(vm, listener.uri, { pinAll, responseTimeoutMs: 10_000 }).migrate();
    sent.catch(() => {});
    await withDeadline(served, 'the end of the migration', 30_000);
    expect(await sent).toMatchObject({ outcome: 'unconfirmed', 'peer-extended': false, 'pin-all': pinAll });

    const [request] = lines.filter((line) => line.op === 'mpa');
    expect(destination.request?.privateData.subarray(0, 8)).toEqual(request?.privateData);
    expect(destination.streamBytes.equals(expectedStream(lines))).toBe(true);
    const types = destination.received.map(({ type }) => type);
    const captured = messages(lines, 'source').map(({ type }) => type);
    expect(upToRam(types)).toEqual(upToRam(captured));
    expect(types.includes('REGISTER_REQUEST')).toBe(!pinAll);
    for (const [index, block] of vm.blocks.entries()) {
      expect(destination.missing(index), block.name).toBe(0n);
      expect((destination.ram[index] as Buffer).equals(await ramOf(path, vm, index)), block.name).toBe(true);
    }
    expect(await fingerprint(path)).toEqual(untouched);
  });
});

async function ramOf(
  path: string,
  vm: Awaited<ReturnType<typeof openImage>>,
  index: number,
): Promise<Buffer> {
  const { readFile } = await import('node:fs/promises');
  return readFile(join(path, vm.manifest.blocks[index]?.file as string));
}

it('the destination of mismatch.jsonl disconnects: our source fails in setup and says what to compare', async () => {
  const path = await imageOf('for-mismatch', trace('dynamic'));
  const untouched = await fingerprint(path);
  const readies = messages(trace('mismatch'), 'dest').length;
  await using listener = await RawListener.open();
  const destination = new ScriptedDestination({
    blocks: announced(trace('dynamic')),
    beforeReady: (count, { peer }) => {
      if (count < readies) return undefined;
      peer.finish();
      return Promise.resolve('over');
    },
  });
  const served = destination.serve(listener);
  const error = await sourceFails(path, listener.uri, 'CONNECTION_LOST', 'setup');
  await served;
  expect(error.message).toMatch(/machine type and memory/);
  expect(await fingerprint(path)).toEqual(untouched);
});

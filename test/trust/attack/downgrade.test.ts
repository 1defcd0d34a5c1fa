/** Somebody in between who changes what both ends say in the clear, with every check made right again: to have less protection, or less of anything. */
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../support/raw-crc32c.ts';
import { MPA_FLAG, MPA_HEADER_BYTES } from '../../support/raw-frames.ts';
import { type Between, byUnits, everything, type Towards } from '../../support/tcp-proxy.ts';
import { attack, type Outcome } from './attack.ts';
import { codeOf, judge } from './judge.ts';
import { DEVICE_TEXT, NAMES, SecretVm, TEXT } from './secret-vm.ts';
import { psk, way, x509 } from './ways.ts';

const PAGES = 4;
const WAYS = [way('x509', x509(), 1), way('a shared key', psk(), 1)] as const;
/** The keys of both ends are not the same. */
const CAUGHT = ['INTEGRITY_ERROR', 'TLS_FAILED', 'PROTOCOL_ERROR', 'TERMINATE_RECEIVED', 'CONNECTION_LOST'];
const PART = { connection: 0, part: 'setup', offset: 0 } as const;

/** Of our tail after QEMU's eight bytes of private data, by lib/protocol/extension.ts. */
const TAIL = { length: 8 + 6, flags: 8 + 8, check: 8 + 20 };
const FLAG = { commit: 0x1, softwareRnic: 0x200, tls: 0x400 };

/** Changes the private data of a setup frame, and mends its check. */
function edit(frame: Buffer, change: (data: Buffer) => void): Buffer {
  const depths = frame.readUInt8(16) & MPA_FLAG.enhanced ? 4 : 0;
  const data = frame.subarray(MPA_HEADER_BYTES + depths);
  const length = 8 + data.readUInt16BE(TAIL.length);
  change(data);
  data.writeUInt32BE(0, TAIL.check);
  data.writeUInt32BE(crc32c(data.subarray(0, length)), TAIL.check);
  return frame;
}

const editing =
  (ways: readonly Towards[], change: (data: Buffer) => void): Between =>
  (connection, towards) =>
    connection === 0 && ways.includes(towards)
      ? byUnits((unit) => (unit.kind === 'mpa' ? edit(unit.bytes, change) : unit.bytes))
      : undefined;

const without =
  (flag: number) =>
  (data: Buffer): void => {
    data.writeUInt32BE((data.readUInt32BE(TAIL.flags) & ~flag) >>> 0, TAIL.flags);
  };

function expectRefusal(outcome: Outcome, towards: Towards, codes: readonly string[]): void {
  expect(judge(outcome, { ...PART, towards })).toEqual([]);
  expect(codes).toContain(codeOf(outcome.source));
  // The destination waited on, and took the honest source.
  expect(outcome.next).toMatchObject({ outcome: 'committed' });
}

describe.each(WAYS.map((each) => [each.name, each] as const))('with %s', (_, way) => {
  const REFUSED = ['TLS_REQUIRED', 'REJECTED'];
  it.each<[string, readonly Towards[]]>([
    ['the source', ['destination']],
    ['the destination', ['source']],
    ['either', ['source', 'destination']],
  ])('nobody goes on where %s seems to have no credentials', async (_who, ways) => {
    await using vm = await SecretVm.create(PAGES);
    const outcome = await attack(vm, way, editing(ways, without(FLAG.tls)));
    expectRefusal(outcome, ways[0] as Towards, REFUSED);
  });

  // A device's RAM would go in the clear.
  it.each<[string, number, readonly Towards[]]>([
    ['the source seems to be a device', FLAG.softwareRnic, ['destination']],
    ['the destination seems to be a device', FLAG.softwareRnic, ['source']],
    ['both seem to be devices', FLAG.softwareRnic, ['source', 'destination']],
    ['the source seems not to have the commit', FLAG.commit, ['destination']],
    ['the destination seems not to have the commit', FLAG.commit, ['source']],
    ['neither seems to have the commit', FLAG.commit, ['source', 'destination']],
  ])('nobody goes on where %s', async (_what, flag, ways) => {
    await using vm = await SecretVm.create(PAGES);
    const outcome = await attack(vm, way, editing(ways, without(flag)));
    expectRefusal(outcome, ways[0] as Towards, CAUGHT);
    const seen = everything(outcome.conversations);
    for (const secret of [TEXT, DEVICE_TEXT, ...NAMES]) expect(seen.includes(secret)).toBe(false);
  });

  // What was said in the clear is acted upon, and told to the user, when it is known to be what the peer has said.
  it.each<[string, number]>([
    ['a commit that was taken out of the reply', FLAG.commit],
    ['a device that was put into the reply', FLAG.softwareRnic],
  ])('a source with verify is not told of %s', async (_what, flag) => {
    await using vm = await SecretVm.create(PAGES);
    const strict = { ...way, source: { ...way.source, verify: true } };
    const { source } = await attack(vm, strict, editing(['source'], without(flag)));
    expect(['INTEGRITY_ERROR', 'TLS_FAILED', 'CONNECTION_LOST']).toContain(codeOf(source));
  });
});

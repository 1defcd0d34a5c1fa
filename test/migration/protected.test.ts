/** Whole migrations over the software RNIC of which both ends prove who they are. */
import { describe, expect, it } from 'vitest';
import type { SourceVm } from '../../lib/index.ts';
import { MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { ClearSpeakingDestination, speakClearly } from '../support/clear-speaker.ts';
import { credentialSets } from '../support/credentials.ts';
import { differences, LiveGuest, MemoryTarget as LiveTarget } from '../support/live-guest.ts';
import { MemoryTarget, MemoryVm, migrateMemory, noise, peek, poke } from '../support/memory-vm.ts';

const sets = credentialSets();
const LENGTH = 8n << 20n;

interface Credentials {
  readonly folder: () => string;
  /** What each end says of the other in its result. */
  readonly source: object;
  readonly destination: object;
}

const by = (name: string): object => ({
  cipher: 'TLS_AES_256_GCM_SHA384',
  subject: expect.stringContaining(`CN=${name}`),
  names: expect.arrayContaining([`DNS:${name}`]),
});
const KEY = { cipher: 'TLS_AES_128_GCM_SHA256', 'psk-name': 'qemu' };
const CREDENTIALS: Readonly<Record<string, Credentials>> = {
  x509: { folder: () => sets.good, source: by('server.example'), destination: by('client.example') },
  psk: { folder: () => sets.psk, source: KEY, destination: KEY },
};
const CASES = Object.keys(CREDENTIALS).flatMap((name) => [1, 4].map((channels) => [name, channels] as const));

const BLOCK = 'ram of some guest';

const withNoise = async (length = LENGTH): Promise<{ vm: MemoryVm; content: Buffer }> => {
  const vm = await MemoryVm.create({ [BLOCK]: length });
  const content = noise(length);
  for (const block of vm.blocks) await poke(block, 0n, content);
  return { vm, content };
};

const blockOf = <T>([block]: readonly T[]): T => {
  if (!block) throw new Error('there is no block');
  return block;
};

const digestsOf = ({ blocks }: SourceVm): Promise<string[]> =>
  Promise.all(blocks.map(({ mapping }) => mapping.digest()));

/** Both ends say the same of the protection, and each who the other is. */
function expectProtected(
  { source, destination, notices }: Awaited<ReturnType<typeof migrateMemory>>,
  credentials: Credentials,
  channels: number,
): void {
  const common = { outcome: 'committed', integrity: 'aead', encrypted: true, crc: false, channels };
  expect(source).toMatchObject({ ...common, tls: credentials.source });
  expect(destination).toMatchObject({ ...common, tls: credentials.destination });
  const lines = notices.filter((notice) => notice.startsWith('protected by TLS 1.3 ('));
  expect(lines).toHaveLength(2);
  for (const line of lines) expect(line).toMatch(/, peer .+; RAM is encrypted$/);
}

describe.each(CASES)('with %s, over %i channels', (name, channels) => {
  const credentials = CREDENTIALS[name] as Credentials;
  const source = () => ({ channels, tls: { creds: credentials.folder(), hostname: 'server.example' } });
  const destination = () => ({ tls: { creds: credentials.folder() } });

  it('a VM that stands still arrives whole, encrypted', async () => {
    const { vm, content } = await withNoise();
    await using _ = vm;
    await using target = new MemoryTarget();
    expectProtected(await migrateMemory(vm, target, source(), destination()), credentials, channels);
    expect((await peek(blockOf(target.blocks), 0n, LENGTH)).equals(content)).toBe(true);
  });

  it('a running guest arrives whole, encrypted', async () => {
    await using vm = await LiveGuest.create();
    await using target = new LiveTarget();
    const options = { ...source(), verify: true, live: { downtimeLimitMs: 50 } };
    const ended = await migrateMemory(vm, target, options, destination());
    expectProtected(ended, credentials, channels);
    expect(vm.calls).toEqual(['pause']);
    expect(await differences(vm, target)).toEqual([]);
  });
});

it('somebody who asks for a CRC gets a migration that is protected all the same', async () => {
  const { vm } = await withNoise();
  await using _ = vm;
  await using target = new MemoryTarget();
  const options = { crc: true, tls: { creds: sets.psk } };
  const ended = await migrateMemory(vm, target, options, options);
  expect(ended.source).toMatchObject({ integrity: 'aead', crc: false });
});

it('nothing moves where the destination is another', async () => {
  await using vm = await MemoryVm.create({ ram: LENGTH });
  await using target = new MemoryTarget();
  const source = { tls: { creds: sets.good, hostname: 'elsewhere.example' } };
  const moved = migrateMemory(vm, target, source, { tls: { creds: sets.good } });
  await expect(moved).rejects.toMatchObject({ code: 'TLS_FAILED' });
  expect(target.blocks).toEqual([]);
});

it('a destination that speaks in the clear after the handshake is found out, and the VM stays as it is', async () => {
  const { vm } = await withNoise();
  await using _ = vm;
  const before = await digestsOf(vm);
  await using destination = await ClearSpeakingDestination.listen(sets.psk);
  const source = new MigrationSource(vm, destination.uri, {
    ...{ provider: 'iwarp', responseTimeoutMs: 10_000 },
    tls: { creds: sets.psk },
  });
  await expect(source.migrate()).rejects.toMatchObject({ code: 'INTEGRITY_ERROR' });
  expect(await digestsOf(vm)).toEqual(before);
});

it('a source that speaks in the clear after the handshake is sent away, and another one is served', async () => {
  const { vm, content } = await withNoise();
  await using _ = vm;
  await using target = new MemoryTarget();
  const tls = { creds: sets.psk };
  const options = { provider: 'iwarp', responseTimeoutMs: 10_000, tls } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
  const refused = new Promise<string>((resolve) => destination.on('notice', resolve));
  const received = destination.receive();
  received.catch(() => {});
  await using _liar = await speakClearly(destination.uri, sets.psk);
  expect(await refused).toMatch(/^refused 127\.0\.0\.1:.*protected connection/);
  const sent = await new MigrationSource(vm, destination.uri, options).migrate();
  expect([sent.outcome, (await received).outcome]).toEqual(['committed', 'committed']);
  expect((await peek(blockOf(target.blocks), 0n, LENGTH)).equals(content)).toBe(true);
});

/** What became of a migration, asked and answered over the network. */
import { afterEach, expect, it } from 'vitest';
import { MigrationDestination } from '../../lib/index.ts';
import type { DestinationOptions, SourceOptions } from '../../lib/migration/options.ts';
import type { StatusWord } from '../../lib/protocol/status.ts';
import { askStatus, StatusService, settle } from '../../lib/qemu/status.ts';
import { credentialSets } from '../support/credentials.ts';

const ID = '6f1c1b1e-5b0e-4a6e-9a55-0f3c3f0a9d11';
const OTHER = '00000000-0000-4000-8000-000000000000';
const sets = credentialSets();

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
});

/** Port 0 is not told by the service: it answers where a destination has been. */
async function answering(
  options: DestinationOptions,
  word: StatusWord,
): Promise<{ uri: string; service: StatusService }> {
  const target = {
    allocate: async () => [],
    append: async () => {},
    commit: async () => {},
    abort: async () => {},
  };
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
  const { uri } = destination;
  await destination.close();
  const service = await StatusService.listen(uri, { provider: 'iwarp', ...options }, async (id) =>
    id === ID ? word : 'unknown',
  );
  open.push(service);
  return { uri, service };
}

const source: SourceOptions = { provider: 'iwarp' };

it.for<StatusWord>(['taken', 'not-taken', 'undecided'])(
  'says %s of the migration that it knows, and unknown of another',
  async (word) => {
    const { uri } = await answering({}, word);
    expect(await askStatus(uri, ID, source)).toBe(word);
    expect(await askStatus(uri, OTHER, source)).toBe('unknown');
  },
);

it('answers only who shows who it is, where credentials are asked for', async () => {
  const { uri } = await answering({ tls: { creds: sets.good } }, 'taken');
  expect(await askStatus(uri, ID, { ...source, tls: { creds: sets.good } })).toBe('taken');
  await expect(askStatus(uri, ID, source)).rejects.toMatchObject({ code: 'TLS_REQUIRED' });
  await expect(askStatus(uri, ID, { ...source, tls: { creds: sets.otherCa } })).rejects.toMatchObject({
    code: 'TLS_FAILED',
  });
});

it('believes no destination that cannot show who it is', async () => {
  const { uri } = await answering({}, 'not-taken');
  await expect(askStatus(uri, ID, { ...source, tls: { creds: sets.good } })).rejects.toMatchObject({
    code: 'TLS_REQUIRED',
  });
});

it('answers nobody whose address is not allowed', async () => {
  const { uri } = await answering({ allow: ['192.0.2.0/24'] }, 'taken');
  await expect(askStatus(uri, ID, source)).rejects.toMatchObject({ code: 'REJECTED' });
});

it('is refused by a destination that waits for a VM, and settles nothing', async () => {
  const target = {
    allocate: async () => [],
    append: async () => {},
    commit: async () => {},
    abort: async () => {},
  };
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
  open.push(destination);
  const cancel = new AbortController();
  const receiving = destination.receive({ signal: cancel.signal });
  receiving.catch(() => {});
  await expect(askStatus(destination.uri, ID, source)).rejects.toMatchObject({ code: 'REJECTED' });
  expect(
    await settle((signal) => askStatus(destination.uri, ID, source, signal), 600, undefined),
  ).toBeUndefined();
  cancel.abort();
  await receiving.catch(() => {});
});

it('asks again until it is decided, and ends the wait of the destination then', async () => {
  const words: StatusWord[] = ['undecided', 'unknown', 'not-taken'];
  expect(await settle(async () => words.shift() as StatusWord, 30_000, undefined)).toBe('not-taken');
  expect(words).toEqual([]);
  const { uri, service } = await answering({}, 'taken');
  const told = service.untilTold(30_000, new AbortController().signal);
  await askStatus(uri, OTHER, source);
  await askStatus(uri, ID, source);
  await told;
});

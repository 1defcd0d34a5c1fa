/** A destination that asks nobody who they are says so, where others reach it. */
import { describe, expect, it } from 'vitest';
import { type DestinationOptions, MigrationDestination } from '../../lib/index.ts';
import { exposure } from '../../lib/migration/destination/exposure.ts';
import { credentialSets } from '../support/credentials.ts';
import { MemoryTarget } from '../support/memory-vm.ts';

const sets = credentialSets();
const at = (host: string, options: DestinationOptions = {}): Promise<string | undefined> =>
  exposure(`rdma:${host}:4444`, host, options);

describe('where others reach it', () => {
  it.each(['0.0.0.0', '::', '192.0.2.7', '2001:db8::7', 'no-such-host.invalid'])('%s', async (host) => {
    expect(await at(host)).toMatch(/^whoever reaches rdma:.+ can place a VM here.+--tls-creds.+--allow/);
  });

  it('and only some addresses may connect: these can', async () => {
    const said = await at('0.0.0.0', { allow: ['192.0.2.0/24'] });
    expect(said).toMatch(
      /^whoever has an address of --allow, or forges one, can place a VM here.+--tls-creds/,
    );
    expect(said).not.toContain('whoever reaches');
  });
});

describe('it says nothing', () => {
  it.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost'])('at %s', async (host) => {
    expect(await at(host)).toBeUndefined();
  });

  it('where it has credentials, or nobody may connect', async () => {
    expect(await at('0.0.0.0', { tls: { creds: '/etc/pki/qemu' } })).toBeUndefined();
    expect(await at('0.0.0.0', { allow: [] })).toBeUndefined();
  });
});

interface Logged {
  readonly warnings: string[];
  readonly notices: string[];
}

/** What is said by a destination that waits and is cancelled. */
async function waiting(uri: string, options: DestinationOptions = {}): Promise<Logged> {
  const said: Logged = { warnings: [], notices: [] };
  const nothing = (): void => {};
  const warn = (_: object, message: string): void => void said.warnings.push(message);
  const logger = { debug: nothing, info: nothing, warn, error: nothing };
  await using target = new MemoryTarget();
  await using destination = await MigrationDestination.listen(uri, target, {
    provider: 'iwarp',
    logger,
    ...options,
  });
  destination.on('notice', (notice) => said.notices.push(notice));
  const received = destination.receive();
  await destination.close();
  await expect(received).rejects.toMatchObject({ code: 'CANCELLED' });
  return said;
}

it('it is a notice, once, and a warning in the log', async () => {
  const { notices, warnings } = await waiting('rdma:0.0.0.0:0');
  expect(notices).toEqual([
    expect.stringMatching(/^whoever reaches rdma:0\.0\.0\.0:[1-9]\d* can place a VM/),
  ]);
  expect(warnings).toEqual(notices);
});

it('with credentials, or on loopback, nothing is said', async () => {
  expect((await waiting('rdma:0.0.0.0:0', { tls: { creds: sets.good } })).notices).toEqual([]);
  expect((await waiting('rdma:127.0.0.1:0')).notices).toEqual([]);
});

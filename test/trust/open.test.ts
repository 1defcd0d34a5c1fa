/** The options of an end, as its handshakes take them. */
import { expect, it } from 'vitest';
import { openTrust } from '../../lib/trust/open.ts';
import { credentialSets, PSK_KEY } from '../support/credentials.ts';

const sets = credentialSets();

it('means the host of the URI, unless it is told another name', async () => {
  const creds = sets.good;
  expect(await openTrust({ creds }, 'client', '192.0.2.7')).toMatchObject({
    role: 'client',
    hostname: '192.0.2.7',
  });
  expect(await openTrust({ creds, hostname: 'h' }, 'client', '192.0.2.7')).toMatchObject({ hostname: 'h' });
});

it('keeps what is said about peers', async () => {
  const policy = { authz: ['a'], authorize: () => true };
  expect(await openTrust({ creds: sets.psk, ...policy }, 'server', '')).toMatchObject(policy);
});

it('is refused where no handshake could be begun', async () => {
  const refusal = { code: 'CREDENTIALS_INVALID', phase: 'configure' };
  const keys = { other: PSK_KEY };
  await expect(openTrust({ creds: { keys } }, 'client', '')).rejects.toMatchObject(refusal);
  await openTrust({ creds: { keys }, pskName: 'other' }, 'client', '');
  await openTrust({ creds: { keys } }, 'server', '');
  await expect(openTrust({ creds: sets.clientOnly }, 'server', '')).rejects.toMatchObject(refusal);
});

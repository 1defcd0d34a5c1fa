/** The options of an end, as its handshakes take them. */
import type { SourceTlsOptions, TlsRole } from './credentials.ts';
import type { Trust } from './handshake.ts';
import { loadCredentials } from './load.ts';
import { clientOptions, serverOptions } from './tls-options.ts';

/**
 * Loads the credentials of an end and makes sure that a handshake can be begun with them.
 * @param host of the URI: whom a source means when `hostname` says nothing
 * @throws MigrationError CREDENTIALS_INVALID, PERMISSION_DENIED
 */
export async function openTrust(
  { creds, hostname, ...policy }: SourceTlsOptions,
  role: TlsRole,
  host: string,
): Promise<Trust> {
  const credentials = await loadCredentials(creds, role);
  const trust: Trust = { ...policy, role, credentials, hostname: hostname ?? host };
  if (role === 'client') clientOptions(credentials, trust);
  else serverOptions(credentials, () => {});
  return trust;
}

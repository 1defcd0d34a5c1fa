import type { SourceTlsOptions } from '../trust/credentials.ts';
import type { EndOptions, SendOptions } from './program.ts';

type TlsFlags = Pick<EndOptions, 'tlsCreds' | 'tlsPskName' | 'tlsAuthz'> & Pick<SendOptions, 'tlsHostname'>;

/** What the command line says of TLS, as the library takes it; whether it makes sense is checked there. */
export function tlsOptions(options: TlsFlags): {
  tls?: SourceTlsOptions;
} {
  const { tlsCreds, tlsPskName, tlsAuthz, tlsHostname } = options;
  const tls: Partial<SourceTlsOptions> = {
    ...(tlsCreds !== undefined && { creds: tlsCreds }),
    ...(tlsPskName !== undefined && { pskName: tlsPskName }),
    ...(tlsAuthz !== undefined && { authz: tlsAuthz }),
    ...(tlsHostname !== undefined && { hostname: tlsHostname }),
  };
  return Object.keys(tls).length === 0 ? {} : { tls: tls as SourceTlsOptions };
}

/** What is said to an operator whose destination asks nobody who they are. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { AllowedAddresses } from '../../trust/allow.ts';
import type { DestinationOptions } from '../options.ts';

const LOOPBACK = new AllowedAddresses(['127.0.0.0/8', '::1']);

/** A sentence; undefined: there is nothing to say. `uri`: where it listens, at `host`. */
export async function exposure(
  uri: string,
  host: string,
  { tls, allow }: Pick<DestinationOptions, 'tls' | 'allow'>,
): Promise<string | undefined> {
  if (tls || allow?.length === 0 || (await isLoopback(host))) return undefined;
  return allow
    ? `whoever has an address of --allow, or forges one, can place a VM here (${uri}), for an address proves nothing; and RAM comes in clear. Let only ` +
        'sources with credentials in (--tls-creds)'
    : `whoever reaches ${uri} can place a VM here, and RAM comes in clear. Let only sources with credentials in (--tls-creds), or at least only some ` +
        'addresses (--allow)';
}

/** A name is one where all of its addresses are. */
export async function isLoopback(host: string): Promise<boolean> {
  if (isIP(host) !== 0) return LOOPBACK.has(host);
  const addresses = await lookup(host, { all: true }).catch(() => []);
  return addresses.length > 0 && addresses.every(({ address }) => LOOPBACK.has(address));
}

/** Addresses that may connect at all. Pure. */
import { BlockList, isIP } from 'node:net';

/** What an entry of a list may be, for messages. */
export const NETWORK = 'an address or a network, such as 192.0.2.0/24 or 2001:db8::/32';

interface Network {
  readonly address: string;
  readonly prefix: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. undefined: it is none. Names and zones are none. */
export function parseNetwork(text: unknown): Network | undefined {
  if (typeof text !== 'string') return undefined;
  const [, address = '', length] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address);
  if (version === 0) return undefined;
  const most = version === 4 ? 32 : 128;
  const prefix = length === undefined ? most : Number(length);
  if (prefix > most) return undefined;
  return { address, prefix, family: version === 4 ? 'ipv4' : 'ipv6' };
}

/** A list of networks, as option `allow` has it; every entry has been checked with {@link parseNetwork}. */
export class AllowedAddresses {
  readonly #list = new BlockList();

  constructor(networks: readonly string[]) {
    for (const text of networks) {
      const network = parseNetwork(text);
      if (!network) throw new TypeError(`${text} is not ${NETWORK}`);
      this.#list.addSubnet(network.address, network.prefix, network.family);
    }
  }

  /** @param address `192.0.2.7:4444` or `[2001:db8::7]:4444`, as of a peer. What cannot be read is not allowed. */
  hasPeer(address: string): boolean {
    const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
    return this.has(host);
  }

  /** An IPv4 address that came over IPv6 (`::ffff:192.0.2.7`) is that IPv4 address; a zone (`%eth0`) does not count. */
  has(host: string): boolean {
    const bare = host.replace(/%.*$/, '');
    const version = isIP(bare);
    return version !== 0 && this.#list.check(bare, version === 4 ? 'ipv4' : 'ipv6');
  }
}

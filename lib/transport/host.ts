/** Which host a peer is, as far as its address tells. Pure. */
import { isIPv6 } from 'node:net';

const LINK_LOCAL = /^fe[89ab]/i;

/**
 * Whose address it is: 192.0.2.1 of "192.0.2.1:4444" and of "[::ffff:192.0.2.1]:4444"; of an IPv6 address its network of 64 bits, of which one host may
 * have every address; but of a link's own (fe80::) all of it, with the zone. As listeners count them (native/fabric/address_limits.h).
 */
export function hostOf(peerAddress: string): string {
  const host = peerAddress.slice(0, peerAddress.lastIndexOf(':'));
  const [, inside = ''] = /^\[([^%]*)(?:%.*)?\]$/.exec(host) ?? [];
  if (!isIPv6(inside) || LINK_LOCAL.test(inside)) return host;
  return /^::ffff:(\d.*\..*)$/i.exec(inside)?.[1] ?? `${network(inside)}::/64`;
}

function network(address: string): string {
  const [front = [], back = []] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0');
  return [...front, ...zeros, ...back].slice(0, 4).join(':').toLowerCase();
}

/** Where the page is served, as it stands on the command line. */
import { isIP } from 'node:net';
import { MigrationError } from '../errors.ts';

export interface WebAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

const LOOPBACK = '127.0.0.1';

/**
 * `[HOST:]PORT`; without a host, this machine alone: 127.0.0.1. IPv6 addresses stand in brackets.
 * @throws MigrationError INVALID_ARGUMENT
 */
export function parseWebAddress(text: string): WebAddress {
  const match = /^(?:(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  const host = (match?.[1] ?? LOOPBACK).replace(/^\[|\]$/g, '');
  if (match === null || port > 65_535 || (match[1]?.startsWith('[') && isIP(host) !== 6))
    throw new MigrationError(
      'INVALID_ARGUMENT',
      'configure',
      `expected [HOST:]PORT such as 8080, 192.0.2.1:8080 or [2001:db8::1]:0 for the page but received ${text}`,
    );
  return { host, port };
}

/** `host:port` as a URL has it. */
export const authority = ({ host, port }: WebAddress): string =>
  `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;

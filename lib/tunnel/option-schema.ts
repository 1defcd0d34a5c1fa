/** Every option of a tunnel, as it is checked before anything is opened. */
import { check, type Wording } from '../options/check.ts';
import {
  boolean,
  field,
  integer,
  listOf,
  milliseconds,
  oneOf,
  optionsOf,
  type ShapeOf,
} from '../options/fields.ts';
import { NETWORK, parseNetwork } from '../trust/allow.ts';
import { hasCredentials, sourceTlsOptions, tlsOptions } from '../trust/option-schema.ts';
import type { TunnelDestinationOptions, TunnelOptions, TunnelSourceOptions } from './options.ts';

const LEAST_RING = 65_536;
const MOST_RING = 64 * 1024 * 1024;
const PAGE = 4096;

const COMMON = {
  provider: oneOf('auto', 'iwarp', 'verbs'),
  crc: boolean,
  connectTimeoutMs: milliseconds,
  responseTimeoutMs: milliseconds,
  once: boolean,
  ringBytes: field(`a multiple of ${PAGE} from ${LEAST_RING} to ${MOST_RING} bytes`, isRing),
} satisfies ShapeOf<TunnelOptions>;

const SOURCE = { ...COMMON, tls: sourceTlsOptions } satisfies ShapeOf<TunnelSourceOptions>;

const DESTINATION = {
  ...COMMON,
  tls: tlsOptions,
  allow: listOf(field(NETWORK, (value) => parseNetwork(value) !== undefined)),
  connectionsPerSecond: integer(1, 100_000),
} satisfies ShapeOf<TunnelDestinationOptions>;

/** @throws MigrationError INVALID_ARGUMENT */
export const checkTunnelSource = (options: TunnelSourceOptions, wording?: Wording): void =>
  check({ schema: optionsOf(SOURCE), rules: [hasCredentials] }, options, wording);

/** @throws MigrationError INVALID_ARGUMENT */
export const checkTunnelDestination = (options: TunnelDestinationOptions, wording?: Wording): void =>
  check({ schema: optionsOf(DESTINATION), rules: [hasCredentials] }, options, wording);

function isRing(value: unknown): boolean {
  return (
    Number.isInteger(value) &&
    (value as number) >= LEAST_RING &&
    (value as number) <= MOST_RING &&
    (value as number) % PAGE === 0
  );
}

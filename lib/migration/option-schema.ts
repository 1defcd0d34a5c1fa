/** Every option of a migration, as it is checked before anything is opened. What they mean is in options.ts. */
import { check, type Rule, type Wording } from '../options/check.ts';
import {
  boolean,
  bytes,
  field,
  integer,
  listOf,
  MOST_MS,
  milliseconds,
  oneOf,
  optionsOf,
  percent,
  type ShapeOf,
  signal,
} from '../options/fields.ts';
import { MigrationHints } from '../ram/hints.ts';
import { CHUNK_BYTES } from '../ram/spans.ts';
import { NETWORK, parseNetwork } from '../trust/allow.ts';
import { hasCredentials, sourceTlsOptions, tlsOptions } from '../trust/option-schema.ts';
import { isLogger } from './logger.ts';
import {
  type DestinationOptions,
  type LiveOptions,
  type MigrationOptions,
  MOST_CHANNELS,
  type ResumeOptions,
  type ServiceOptions,
  type SourceOptions,
} from './options.ts';
import { leastPinBudget } from './pins/pin-window.ts';

const RESUME = {
  windowMs: integer(0, MOST_MS, 'milliseconds'),
  retryMs: milliseconds,
} satisfies ShapeOf<ResumeOptions>;

const COMMON = {
  provider: oneOf('auto', 'iwarp', 'verbs'),
  crc: boolean,
  connectTimeoutMs: milliseconds,
  responseTimeoutMs: milliseconds,
  commitTimeoutMs: milliseconds,
  totalTimeoutMs: milliseconds,
  commit: oneOf('auto', 'require', 'off'),
  logger: field('a logger with debug, info, warn and error', isLogger),
  channels: integer(1, MOST_CHANNELS),
  pinBudget: bytes(leastPinBudget(CHUNK_BYTES)),
  onPinLimit: oneOf('lower', 'fail'),
  tls: tlsOptions,
  resume: optionsOf(RESUME),
} satisfies ShapeOf<MigrationOptions>;

const LIVE = {
  downtimeLimitMs: milliseconds,
  availSwitchoverBandwidth: bytes(0n, 'bytes per second'),
  timeLimitMs: milliseconds,
  onTimeLimit: oneOf('cancel', 'stop-and-copy'),
  autoConverge: boolean,
  cpuThrottleInitial: percent(99),
  cpuThrottleIncrement: percent(99),
  maxCpuThrottle: percent(99),
  throttleTriggerThreshold: percent(100),
} satisfies ShapeOf<LiveOptions>;

const SOURCE = {
  ...COMMON,
  tls: sourceTlsOptions,
  waitMs: milliseconds,
  pinAll: boolean,
  maxBandwidth: bytes(0n, 'bytes per second'),
  verify: boolean,
  continue: boolean,
  hints: field('a MigrationHints', (value) => value instanceof MigrationHints),
  live: optionsOf(LIVE),
} satisfies ShapeOf<SourceOptions>;

const DESTINATION = {
  ...COMMON,
  allow: listOf(field(NETWORK, (value) => parseNetwork(value) !== undefined)),
  maxRam: bytes(1n),
  connectionsPerSecond: integer(1, 100_000),
  populate: oneOf('auto', 'always', 'never'),
} satisfies ShapeOf<DestinationOptions>;

const SERVICE = {
  ...DESTINATION,
  maxMigrations: integer(1, 1024),
  ramIsFresh: boolean,
} satisfies ShapeOf<ServiceOptions>;

const pinsOnce: Rule<SourceOptions> = ({ pinAll, pinBudget }, name) =>
  pinAll && pinBudget !== undefined
    ? `${name('pinAll')} registers everything at once and ${name('pinBudget')} limits what is: ask for one of them`
    : undefined;

const verifiesInCommit: Rule<SourceOptions> = ({ verify, commit }, name) =>
  verify && commit === 'off'
    ? `${name('verify')} compares RAM as a part of the commit handshake, and ${name('commit')} off leaves that out: ask for one of them`
    : undefined;

const continuesWithCommit: Rule<SourceOptions> = ({ continue: continues, commit }, name) =>
  continues && commit === 'off'
    ? `${name('continue')} needs the commit handshake, and ${name('commit')} off leaves that out: ask for one of them`
    : undefined;

const SOURCE_OPTIONS = {
  schema: optionsOf(SOURCE),
  rules: [pinsOnce, verifiesInCommit, continuesWithCommit, hasCredentials],
};
const DESTINATION_OPTIONS = { schema: optionsOf(DESTINATION), rules: [hasCredentials] };
const SERVICE_OPTIONS = { schema: optionsOf(SERVICE), rules: [hasCredentials] };
const LIVE_OPTIONS = { schema: optionsOf(LIVE) };
const RUN_OPTIONS = { schema: optionsOf({ signal }) };
const MAX_BANDWIDTH = { schema: SOURCE.maxBandwidth, prefix: 'bytesPerSecond' };

/** @throws MigrationError INVALID_ARGUMENT, as all here */
export const checkSourceOptions = (options: SourceOptions, wording?: Wording): void =>
  check(SOURCE_OPTIONS, options, wording);

export const checkDestinationOptions = (options: DestinationOptions, wording?: Wording): void =>
  check(DESTINATION_OPTIONS, options, wording);

export const checkServiceOptions = (options: ServiceOptions, wording?: Wording): void =>
  check(SERVICE_OPTIONS, options, wording);

export const checkLiveOptions = (options: LiveOptions): void => check(LIVE_OPTIONS, options);

/** Of `migrate` and `receive`. */
export const checkRunOptions = (options: { signal?: AbortSignal }): void => check(RUN_OPTIONS, options);

export const checkMaxBandwidth = (bytesPerSecond: bigint): void => check(MAX_BANDWIDTH, bytesPerSecond);

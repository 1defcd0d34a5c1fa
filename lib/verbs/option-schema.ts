/** Every option, as it is checked before anything is opened. What they mean is in options.ts. */
import { check, type Rule } from '../options/check.ts';
import {
  boolean,
  byteArray,
  field,
  fn,
  integer,
  milliseconds,
  objectWith,
  oneOf,
  optionsOf,
  type ShapeOf,
  signal,
  text,
} from '../options/fields.ts';
import { CompletionBatch } from './completion-batch.ts';
import type {
  AcceptOptions,
  Access,
  CompletionOptions,
  ConnectOptions,
  DomainOptions,
  Endpoint,
  FreezeOptions,
  ListenOptions,
  MoveOptions,
  QueuePairOptions,
  ResumeOptions,
  ThawOptions,
} from './options.ts';

const provider = oneOf('auto', 'iwarp', 'verbs');
/** Requests that a provider's listener takes: native/iwarp/listener.cc, native/verbs/listener.cc. */
export const MOST_UNANSWERED = 64;
const workRequests = integer(1, 65_536);
const endpoint = objectWith({ host: text, port: integer(0, 65_535) } satisfies ShapeOf<Endpoint>);

const CONNECT = { privateData: byteArray, signal } satisfies ShapeOf<ConnectOptions>;

const oneAddress: Rule<DomainOptions> = ({ peer, local }, name) =>
  peer !== undefined && local !== undefined
    ? `${name('peer')} is for who connects and ${name('local')} for who listens: give one of them`
    : undefined;

const writesLocallyToo: Rule<Access> = ({ remoteWrite, localWrite }, name) =>
  remoteWrite && !localWrite ? `${name('remoteWrite')} needs ${name('localWrite')}` : undefined;

const ENDPOINT = { schema: endpoint, prefix: 'endpoint' };
const DOMAIN = {
  schema: optionsOf({ provider, peer: endpoint, local: endpoint } satisfies ShapeOf<DomainOptions>),
  rules: [oneAddress],
};
const ACCESS = {
  schema: optionsOf({
    localWrite: boolean,
    remoteWrite: boolean,
    remoteRead: boolean,
  } satisfies ShapeOf<Access>),
  rules: [writesLocallyToo],
};
const QUEUE_PAIR = {
  schema: optionsOf({
    maxSendWr: workRequests,
    maxRecvWr: workRequests,
    crc: boolean,
    connectTimeoutMs: milliseconds,
    stallTimeoutMs: milliseconds,
    resume: objectWith({
      windowMs: milliseconds,
      retryMs: milliseconds.optional(),
    } satisfies ShapeOf<ResumeOptions>),
  } satisfies ShapeOf<QueuePairOptions>),
};
const MOST_PLACES = 4;
const MOST_PAUSE_MS = 24 * 60 * 60 * 1000;
const MOVE = {
  schema: optionsOf({
    to: field(
      'the address and port of a listener, or a list of up to four',
      (value) =>
        (Array.isArray(value) ? value : [value]).length <= MOST_PLACES &&
        [value].flat().length > 0 &&
        [value].flat().every((each) => endpoint.safeParse(each).success),
    ),
    blocks: field('an object of memory by name', (value) => typeof value === 'object' && value !== null),
    ahead: boolean,
    announce: fn,
    longestPauseMs: integer(1, MOST_PAUSE_MS, 'milliseconds'),
    signal,
  } satisfies ShapeOf<MoveOptions>),
};
const FREEZE = { schema: optionsOf({ drainMs: milliseconds } satisfies ShapeOf<FreezeOptions>) };
const THAW = {
  schema: optionsOf({
    memory: fn,
    expected: field('what expectMove() gives', (value) => typeof value === 'object' && value !== null),
  } satisfies ShapeOf<ThawOptions>),
};
const ACCEPT = {
  schema: optionsOf({ ...CONNECT, maySendAtOnce: boolean } satisfies ShapeOf<AcceptOptions>),
};
const LISTEN = {
  schema: optionsOf({
    provider,
    backlog: integer(1, MOST_UNANSWERED),
    connectTimeoutMs: milliseconds,
    signal,
    onStranger: fn,
  } satisfies ShapeOf<ListenOptions>),
};
const COMPLETIONS = {
  schema: optionsOf({
    batch: field('a CompletionBatch', (value) => value instanceof CompletionBatch),
    signal,
  } satisfies ShapeOf<CompletionOptions>),
};

/** Each @throws MigrationError INVALID_ARGUMENT that names every option which is wrong. */
export const checkEndpoint = (given: Endpoint): void => check(ENDPOINT, given);
export const checkDomain = (given: DomainOptions): void => check(DOMAIN, given);
export const checkAccess = (given: Access): void => check(ACCESS, given);
export const checkQueuePair = (given: QueuePairOptions): void => check(QUEUE_PAIR, given);
export const checkConnect = (given: ConnectOptions): void => check({ schema: optionsOf(CONNECT) }, given);
export const checkAccept = (given: AcceptOptions): void => check(ACCEPT, given);
export const checkMove = (given: MoveOptions): void => check(MOVE, given);
export const checkFreeze = (given: FreezeOptions): void => check(FREEZE, given);
export const checkThaw = (given: ThawOptions): void => check(THAW, given);
export const checkListen = (given: ListenOptions): void => check(LISTEN, given);
export const checkCompletions = (given: CompletionOptions): void => check(COMPLETIONS, given);

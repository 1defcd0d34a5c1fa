/** How much RAM may be registered at one time: what was asked for, what this machine allows, what the peer allows. Pure functions. */
import { MigrationError, type Phase } from '../../errors.ts';
import { CHUNK_BYTES } from '../../ram/spans.ts';
import type { Lockable } from './lockable.ts';
import { leastPinBudget } from './pin-window.ts';

/** Buffers of a connection's control messages, pinned with the RAM: native/engine/endpoint.h has 8 of 512 KiB. */
export const CONTROL_BUFFER_BYTES = 4n << 20n;
/** What is on its way at one time, over all channels, and the least that a channel has room for: native/engine/bulk_writer.cc. */
const OUTSTANDING_BYTES = 16n << 20n;
const LEAST_STAGING_BYTES = 8n << 20n;
/**
 * Copies of pages on their way over so many channels, for a tracker that compares content: native/engine/staging.h. Pinned at the source, instead
 * of the RAM that they are of.
 */
export function stagingBytes(channels: number): bigint {
  const all = BigInt(channels) * LEAST_STAGING_BYTES;
  return all > OUTSTANDING_BYTES ? all : OUTSTANDING_BYTES;
}

/** What an embedder or operator asks for. */
export interface PinOptions {
  /**
   * The most bytes of RAM that are registered, and with an RDMA device pinned, at one time on this side; both ends keep to the smaller of
   * their budgets. At least 2 MiB, or two of the largest page. Default: none. Not together with `pinAll`.
   */
  readonly pinBudget?: bigint;
  /**
   * What happens when this machine's limits (RLIMIT_MEMLOCK, cgroup) allow less than is wanted. `lower` (default): a budget that fits. `fail`:
   * LOCKED_MEMORY_LIMIT before anything is sent.
   */
  readonly onPinLimit?: 'lower' | 'fail';
}

export interface PinPolicy {
  readonly pinAll: boolean;
  readonly budget: bigint | undefined;
  readonly onLimit: 'lower' | 'fail';
}

/** What is done. */
export interface PinPlan {
  readonly pinAll: boolean;
  readonly budget: bigint | undefined;
  /** Why it is not what was asked for. */
  readonly notice?: string;
}

export function pinPolicy(options: PinOptions & { readonly pinAll?: boolean }): PinPolicy {
  const { pinAll = false, pinBudget: budget, onPinLimit: onLimit = 'lower' } = options;
  return { pinAll, budget, onLimit };
}

/** What a plan is made from. */
export interface PinFacts {
  /** Bytes of RAM that this side may come to register. */
  readonly ramBytes: bigint;
  /** {@link pinGranule} of the blocks. */
  readonly granule: bigint;
  /** Absent: the provider pins nothing, or there is no limit. */
  readonly lockable: Lockable | undefined;
  /** What else will be pinned before RAM is. */
  readonly reserve: bigint;
}

/** What a source does, before it connects. @throws MigrationError LOCKED_MEMORY_LIMIT with the bytes needed and the limit */
export function planPins(policy: PinPolicy, facts: PinFacts): PinPlan {
  const { pinAll, budget } = policy;
  const { ramBytes, granule, lockable, reserve } = facts;
  const least = leastPinBudget(granule);
  if (budget !== undefined && budget < least) throw tooSmall(budget, least, 'this side', 'configure');
  const wanted = pinAll || budget === undefined || budget > ramBytes ? ramBytes : budget;
  if (lockable === undefined || wanted + reserve <= lockable.room) return { pinAll, budget };
  if (policy.onLimit === 'fail') throw overLimit(wanted + reserve, lockable, 'configure');
  const fits = wholeGranules(lockable.room - reserve, granule);
  if (fits < least) throw overLimit((wanted < least ? wanted : least) + reserve, lockable, 'configure');
  const asked = pinAll
    ? 'pin-all'
    : budget === undefined
      ? 'no pin budget'
      : `a pin budget of ${budget} bytes`;
  const notice =
    `${asked} would pin up to ${wanted + reserve} bytes, and ${lockable.source} leaves ${lockable.room} of ${lockable.limit}: ` +
    `going on with a pin budget of ${fits} bytes`;
  return { pinAll: false, budget: fits, notice };
}

/** The smaller of both ends' budgets. @throws MigrationError LOCKED_MEMORY_LIMIT when it holds not even two spans */
export function agreedBudget(
  own: bigint | undefined,
  peers: bigint | undefined,
  granule: bigint,
): bigint | undefined {
  if (peers === undefined) return own;
  const least = leastPinBudget(granule);
  if (peers < least) throw tooSmall(peers, least, 'the destination', 'negotiate');
  return own !== undefined && own < peers ? own : peers;
}

/** What a destination offers, which learns only later how much RAM will come. */
export interface DestinationPinPlan {
  /** Grant pin-all, to a source that has no more than `pinAllLimit`. */
  readonly pinAll: boolean;
  readonly pinAllLimit: bigint | undefined;
  /** For sources that keep to a budget. */
  readonly offered: bigint | undefined;
  /** For any source: what was asked for, lowered to what fits. */
  readonly enforced: bigint | undefined;
  readonly notice?: string;
}

/** @throws MigrationError LOCKED_MEMORY_LIMIT */
export function planDestinationPins(
  { budget, onLimit }: PinPolicy,
  { lockable, reserve }: Omit<PinFacts, 'ramBytes' | 'granule'>,
): DestinationPinPlan {
  const asked = { pinAll: budget === undefined, offered: budget, enforced: budget };
  if (lockable === undefined || (budget !== undefined && budget + reserve <= lockable.room))
    return { ...asked, pinAllLimit: undefined };
  const least = leastPinBudget(CHUNK_BYTES);
  if (budget !== undefined && onLimit === 'fail') throw overLimit(budget + reserve, lockable, 'listen');
  const fits = wholeGranules(lockable.room - reserve, CHUNK_BYTES);
  if (fits < least) throw overLimit(least + reserve, lockable, 'listen');
  if (budget === undefined)
    return { ...asked, pinAllLimit: fits, offered: onLimit === 'lower' ? fits : undefined };
  const notice =
    `a pin budget of ${budget} bytes does not fit: ${lockable.source} leaves ${lockable.room} of ${lockable.limit}. ` +
    `Going on with ${fits} bytes`;
  return { pinAll: false, pinAllLimit: undefined, offered: fits, enforced: fits, notice };
}

/** @throws MigrationError LOCKED_MEMORY_LIMIT when RAM that is to be registered as a whole, or may come to be, does not fit */
export function checkRamFits(ramBytes: bigint, lockable: Lockable | undefined): void {
  if (lockable && ramBytes > lockable.room) throw overLimit(ramBytes, lockable, 'setup');
}

const wholeGranules = (bytes: bigint, granule: bigint): bigint =>
  bytes < granule ? 0n : (bytes / granule) * granule;

function overLimit(needed: bigint, { limit, pinned, source }: Lockable, phase: Phase): MigrationError {
  return new MigrationError(
    'LOCKED_MEMORY_LIMIT',
    phase,
    `registering RAM for RDMA needs ${needed} bytes of pinned memory, ${pinned} are pinned already, and ${source} allows ${limit} in all: raise it ` +
      '(ulimit -l unlimited; LimitMEMLOCK=infinity in a systemd unit; memory.max of the cgroup), or set a smaller pin budget',
    { details: { needed, pinned, limit, source } },
  );
}

function tooSmall(budget: bigint, least: bigint, whose: string, phase: Phase): MigrationError {
  return new MigrationError(
    'LOCKED_MEMORY_LIMIT',
    phase,
    `the pin budget of ${whose} is ${budget} bytes, and no VM with these pages can be moved with less than ${least}: set a larger one`,
    { details: { needed: least, limit: budget } },
  );
}

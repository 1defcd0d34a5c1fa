import { availableParallelism } from 'node:os';
import { MigrationError } from '../errors.ts';
import type { NativeConnectionOptions } from '../native/transport.ts';
import type { ProviderChoice } from '../transport/provider.ts';

/** What both ends can be told. */
export interface MigrationOptions {
  /** Default `auto`. */
  readonly provider?: ProviderChoice;
  /** Software iWARP: ask for CRC32C on the wire. In use when either end asks. Default false, as the Linux driver `siw` has it. */
  readonly crc?: boolean;
  /** Connecting and the handshake, milliseconds. Default 10 000. */
  readonly connectTimeoutMs?: number;
  /**
   * The longest wait for the peer's next message, and for the wire to make progress, milliseconds. Default 60 000: a peer that pins
   * many gigabytes is silent for that time.
   */
  readonly responseTimeoutMs?: number;
  /**
   * The commit handshake that two rdma-migrate ends agree on. `auto` (default): if the peer has it. `require`: refuse a peer without it.
   * `off`: behave like a version 1 peer.
   */
  readonly commit?: 'auto' | 'require' | 'off';
}

export interface SourceOptions extends MigrationOptions {
  /** QEMU's `rdma-pin-all`: the destination registers all RAM at once. Default false. */
  readonly pinAll?: boolean;
  /** QEMU's `max-bandwidth`: bytes per second, 0 for no limit. Default 0. */
  readonly maxBandwidth?: bigint;
  /** Compare a digest of all RAM on both sides before the commit. Reads all RAM once more. Default false. */
  readonly verify?: boolean;
}

export interface DestinationOptions extends MigrationOptions {
  /**
   * Whether registered memory is touched ahead of the WRITEs, on a thread of its own. A first touch on the way of a WRITE is several times
   * slower; but where no core is to spare that thread keeps event loops waiting (23 instead of 3 ms at the 99th percentile, with both
   * ends on two cores). `auto` (default): with more than two cores.
   */
  readonly populate?: 'auto' | 'always' | 'never';
}

/** @throws MigrationError INVALID_ARGUMENT */
export function populatesAhead({ populate = 'auto' }: DestinationOptions): boolean {
  switch (populate) {
    case 'auto':
      return availableParallelism() > 2;
    case 'always':
      return true;
    case 'never':
      return false;
    default:
      throw new MigrationError(
        'INVALID_ARGUMENT',
        'configure',
        `expected auto, always or never for populate but received ${String(populate satisfies never)}`,
      );
  }
}

/** @throws MigrationError INVALID_ARGUMENT */
export function connectionOptions(options: MigrationOptions): NativeConnectionOptions {
  return {
    crc: options.crc ?? false,
    connectTimeoutMs: milliseconds('connectTimeoutMs', options.connectTimeoutMs ?? 10_000),
    stallTimeoutMs: milliseconds('responseTimeoutMs', options.responseTimeoutMs ?? 60_000),
  };
}

function milliseconds(name: string, value: number): number {
  if (Number.isInteger(value) && value > 0 && value <= 2 ** 31 - 1) return value;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `expected an integer from 1 to 2147483647 milliseconds for ${name} but received ${value}`,
  );
}

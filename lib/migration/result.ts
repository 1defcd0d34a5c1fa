import type { Agreed } from '../protocol/capabilities.ts';
import type { Coverage } from '../ram/coverage.ts';
import type { Connection } from '../transport/connection.ts';
import type { ChosenProvider, ProviderName } from '../transport/provider.ts';
import type { MigrationProgress } from './progress.ts';
import { type TlsFacts, tlsFacts } from './protection.ts';

/** What control messages have cost a source. Times are milliseconds of the passes over RAM. */
export interface ControlCosts {
  /** It has sent so many, from the first to the commit. */
  readonly messages: number;
  /** It had something to say, and the destination was not ready. WRITEs may have gone on meanwhile. */
  readonly 'ready-wait': number;
  /** It had asked for keys. WRITEs may have gone on meanwhile. */
  readonly 'key-wait': number;
  /** No WRITE was under way, and not because of a bandwidth limit: what waits, scans and registrations have really cost. */
  readonly idle: number;
}

/** What is known of a completed migration beside its statistics. Plain data. */
export interface MigrationFacts {
  /**
   * Which migration this is, a UUID: the same at both ends and in the image that it wrote. With a version 1 peer, or an older release of
   * ours, each end knows its own alone.
   */
  readonly migrationId: string;
  readonly provider: ProviderName;
  /** Why this provider was taken. */
  readonly 'provider-reason': string;
  /** host:port of the peer, and a line on the connection for logs. */
  readonly peer: string;
  readonly connection: string;
  /** The peer is an rdma-migrate (it answered our extension), not a plain version 1 peer. */
  readonly 'peer-extended': boolean;
  readonly 'pin-all': boolean;
  readonly crc: boolean;
  /**
   * What finds damage of what travels: `aead` where RAM is encrypted, which finds attacks too; `crc32c` on the software RNIC, `device` on an RDMA device,
   * which checks what its network carries; `none`: nothing does but TCP's checksum, for an end has switched the CRC off, or the peer knows none.
   */
  readonly integrity: 'aead' | 'crc32c' | 'device' | 'none';
  /**
   * RAM, messages and device state were encrypted on their way. False without TLS, and with it where an RDMA device is at either end: messages and
   * device state are encrypted then, and RAM is in clear.
   */
  readonly encrypted: boolean;
  /** With TLS: who the peer has proved to be. */
  readonly tls?: TlsFacts;
  /** Bytes of RAM that could be registered at one time. Absent: there was no budget. */
  readonly 'pin-budget'?: number;
  /** The most bytes of RAM that were registered at one time. */
  readonly 'registered-peak': number;
  /** Bytes that were sent again, for the link broke before the peer had confirmed them; 0 at a destination that has only received. */
  readonly 'resent-bytes': number;
  /** At a source that has gone on from an earlier try: bytes of RAM that the destination had already. */
  readonly continued?: number;
  /**
   * Who may run the VM. `committed`: the destination has confirmed that it holds everything, the source's VM must never run again.
   * `unconfirmed`, at the source: a version 1 destination confirms nothing; look at it before you give the source's VM up. At the destination:
   * the VM is complete here, and the source could not be told.
   */
  readonly outcome: 'committed' | 'unconfirmed';
  /** At the destination: whether the source has accounted for every page of RAM. */
  readonly coverage?: Coverage;
  /** At the source. */
  readonly control?: ControlCosts;
  readonly machine: string;
  /** Bytes of the stream after RAM. */
  readonly 'device-state-bytes': number;
}

/** A migration that has been completed. Plain data. */
export interface MigrationResult extends MigrationProgress, MigrationFacts {
  readonly status: 'completed';
}

const integrityOf = ({
  info: { provider, crc },
  secured,
}: Pick<Connection, 'info' | 'secured'>): MigrationFacts['integrity'] => {
  if (secured?.encrypted) return 'aead';
  if (provider === 'verbs') return 'device';
  return crc ? 'crc32c' : 'none';
};

export function describe(
  connection: Connection,
  agreed: Agreed,
  provider: ChosenProvider,
  machine: string,
  summary: {
    migrationId: string;
    deviceStateBytes: number;
    committed: boolean;
    coverage?: Coverage;
    pinBudget?: bigint;
    registeredPeak: bigint;
    continued?: bigint;
    control?: ControlCosts;
  },
): MigrationFacts {
  const { info, secured } = connection;
  return {
    migrationId: summary.migrationId,
    provider: info.provider,
    'provider-reason': provider.reason,
    peer: info.peerAddress,
    connection: info.detail,
    'peer-extended': agreed.extended,
    'pin-all': agreed.pinAll,
    crc: info.crc,
    integrity: integrityOf(connection),
    encrypted: secured?.encrypted ?? false,
    ...(secured && { tls: tlsFacts(secured) }),
    ...(summary.pinBudget === undefined ? {} : { 'pin-budget': Number(summary.pinBudget) }),
    'registered-peak': Number(summary.registeredPeak),
    'resent-bytes': Number(connection.stats().payloadResent),
    outcome: summary.committed ? 'committed' : 'unconfirmed',
    ...(summary.coverage && { coverage: summary.coverage }),
    ...(summary.continued !== undefined && { continued: Number(summary.continued) }),
    ...(summary.control && { control: summary.control }),
    machine,
    'device-state-bytes': summary.deviceStateBytes,
  };
}

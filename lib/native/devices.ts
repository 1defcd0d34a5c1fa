/** What the addon exports of RDMA devices (native/fabric/device_provider.h), declared. Nothing is decided here. */

export interface NativeGid {
  readonly index: number;
  /** As an IPv6 address. */
  readonly gid: string;
  /** `IB`, `RoCE v1`, `RoCE v2`; empty where the kernel does not tell. */
  readonly type: string;
  /** The network interface behind it, or empty. */
  readonly netdev: string;
}

export interface NativeDevicePort {
  readonly number: number;
  /** `ACTIVE`, `DOWN` and so on. */
  readonly state: string;
  /** `Ethernet` or `InfiniBand`. */
  readonly linkLayer: string;
  /** Bytes. */
  readonly activeMtu: number;
  readonly gids: readonly NativeGid[];
}

export interface NativeDevice {
  /** Such as `mlx5_0`. */
  readonly name: string;
  /** `InfiniBand` (RoCE too) or `iWARP`. */
  readonly transport: string;
  readonly firmware: string;
  /** Why it cannot be used; empty when it can. */
  readonly problem: string;
  readonly limits: {
    /** Bytes in one registration. */
    readonly maxMrSize: bigint;
    readonly maxMr: number;
    readonly maxQp: number;
    readonly maxQpWr: number;
    readonly maxCqe: number;
    readonly maxQpRdAtom: number;
  };
  readonly ports: readonly NativeDevicePort[];
  /** Of this host, that connections through this device can use. */
  readonly addresses: readonly string[];
}

export interface NativeReach {
  readonly reachable: boolean;
  /** Empty when listening on every address. */
  readonly device: string;
  readonly port: number;
  /** Why, or why not, for logs. */
  readonly reason: string;
}

export interface NativeProof {
  readonly ok: boolean;
  /** The address that was connected to. */
  readonly address: string;
  /** Written and compared. */
  readonly bytes: bigint;
  readonly milliseconds: number;
  /** What was shown, or what went wrong. */
  readonly message: string;
}

/** Why the verbs provider does not load. */
export interface NativeVerbsProblem {
  /** Both of the following, in a sentence. */
  readonly message: string;
  readonly reason: string;
  /** What to install, as a command. */
  readonly remedy: string;
}

/** All but `verbsProblem` and `setBuildCommand` reject with PROVIDER_UNAVAILABLE where the verbs provider does not load. */
export interface NativeDevices {
  /** null: the provider loads. Says nothing about devices. */
  verbsProblem(): NativeVerbsProblem | null;
  /** How the addon is built here: the remedy for a verbs provider that was not, or in another build. */
  setBuildCommand(command: string): void;
  /** Every RDMA device, usable or not. */
  listDevices(): Promise<NativeDevice[]>;
  /**
   * Which device leads to an address. Connecting: through which a route and a neighbour are found; whether the peer speaks RDMA is
   * known when a connection is tried. Listening: which has the address, or for every address, whether any has an active port.
   */
  findDevice(
    endpoint: { host: string; port: number },
    direction: 'connect' | 'listen',
    timeoutMs: number,
  ): Promise<NativeReach>;
  /** Connects a device to itself, writes 1 MiB into registered memory and compares. Never rejects for what the device does. */
  proveDevice(device: string, timeoutMs: number): Promise<NativeProof>;
}

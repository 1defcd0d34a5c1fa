import { MigrationError } from '../errors.ts';
import type { NativeConnectionRequest } from '../native/transport.ts';
import { calling } from './failure.ts';

let make: (native: NativeConnectionRequest) => ConnectionRequest;
let take: (request: ConnectionRequest) => NativeConnectionRequest;
let look: (request: ConnectionRequest) => NativeConnectionRequest;

/**
 * A peer that wants to connect. Answer it once, with `queuePair.accept(request)` or `reject()`: until then it costs a descriptor. One that is
 * collected unanswered is rejected.
 */
export class ConnectionRequest {
  /** What the peer sent along with it. Check it: anybody may come. */
  readonly privateData: Uint8Array;
  /** `192.0.2.1:51234` */
  readonly peerAddress: string;
  #native: NativeConnectionRequest | undefined;

  static {
    make = (native) => new ConnectionRequest(native);
    take = (request) => request.#take();
    look = (request) => request.#unanswered();
  }

  private constructor(native: NativeConnectionRequest) {
    this.#native = native;
    this.privateData = native.privateData;
    this.peerAddress = native.peerAddress;
  }

  /**
   * Refuses, and waits for nobody. The peer's connect() fails with REJECTED.
   * `privateData`: at most 508 bytes (iWARP) or 148 (InfiniBand).
   * @throws MigrationError INVALID_ARGUMENT (too long, or answered already)
   */
  reject(privateData: Uint8Array = new Uint8Array()): void {
    const native = this.#take();
    try {
      calling('listen', () => native.reject(privateData));
    } finally {
      native.drop(); // refused words or not, the peer hears that it is rejected
    }
  }

  #take(): NativeConnectionRequest {
    const native = this.#unanswered();
    this.#native = undefined;
    return native;
  }

  #unanswered(): NativeConnectionRequest {
    const native = this.#native;
    if (native === undefined) {
      throw new MigrationError(
        'INVALID_ARGUMENT',
        'connect',
        `the connection request from ${this.peerAddress} has been answered already`,
      );
    }
    return native;
  }
}

export const makeRequest = (native: NativeConnectionRequest): ConnectionRequest => make(native);

/** For {@link QueuePair.accept}. @throws MigrationError INVALID_ARGUMENT (answered already) */
export const takeRequest = (request: ConnectionRequest): NativeConnectionRequest => take(request);

/** For {@link Domain.bind}, which leaves it to be answered. @throws MigrationError INVALID_ARGUMENT (answered already) */
export const lookAtRequest = (request: ConnectionRequest): NativeConnectionRequest => look(request);

import type { NativeConnection } from '../native/transport.ts';
import type { Protectable } from '../trust/protection.ts';
import type { TrafficSecrets } from '../trust/session-keys.ts';

type Native = Pick<NativeConnection, 'send' | 'receive' | 'resumeReceive' | 'protect'>;

/**
 * The messages of a connection that holds back what follows each one of the peer's until it is protected (`holdUntilProtected`): whoever asks
 * for the next message says that it comes in the clear. So what a peer protects is never taken for clear bytes, however early it comes.
 */
export class RecordPort implements Protectable {
  readonly #native: Native;
  #asked = false;

  constructor(native: Native) {
    this.#native = native;
  }

  send(message: Uint8Array): Promise<void> {
    return this.#native.send(message);
  }

  receive(): Promise<Uint8Array | null> {
    if (this.#asked) this.#native.resumeReceive(false);
    this.#asked = true;
    return this.#native.receive();
  }

  /** @throws MigrationError CRYPTO_UNAVAILABLE, CONNECTION_CLOSED */
  protect({ send, receive }: TrafficSecrets): Promise<void> {
    return this.#native.protect(send, receive);
  }
}

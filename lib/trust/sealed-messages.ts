/**
 * Messages sealed one by one, where the provider does not protect what it carries: AES-256-GCM, the number of the message as the nonce, as
 * in records of TLS 1.3 (RFC 8446, section 5.3). A message that is repeated, left out or out of order is not accepted.
 */
import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { MigrationError } from '../errors.ts';
import type { MessagePort } from './message-stream.ts';
import type { Protectable } from './protection.ts';
import type { TrafficSecrets } from './session-keys.ts';

const ALGORITHM = 'aes-256-gcm';
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const IV_BYTES = 12;

/** What a message grows by. */
export const SEAL_BYTES = TAG_BYTES;

/** One direction. */
class Sealing {
  readonly #key: KeyObject;
  readonly #iv: Buffer;
  #next = 0n;

  constructor(secret: Buffer) {
    const bytes = Buffer.from(hkdfSync('sha256', secret, '', 'rdma-migrate message', KEY_BYTES + IV_BYTES));
    this.#key = createSecretKey(bytes.subarray(0, KEY_BYTES));
    this.#iv = Buffer.from(bytes.subarray(KEY_BYTES));
    bytes.fill(0); // they have been copied
  }

  #nonce(): Buffer {
    const nonce = Buffer.from(this.#iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(IV_BYTES - 8) ^ this.#next, IV_BYTES - 8);
    return nonce;
  }

  /** The next message has the next number. */
  count(): void {
    this.#next += 1n;
  }

  /** With the same number until it is counted. */
  seal(message: Uint8Array): Buffer {
    const cipher = createCipheriv(ALGORITHM, this.#key, this.#nonce(), { authTagLength: TAG_BYTES });
    return Buffer.concat([cipher.update(message), cipher.final(), cipher.getAuthTag()]);
  }

  open(sealed: Uint8Array): Buffer {
    const nonce = this.#nonce();
    this.count();
    if (sealed.length < TAG_BYTES) throw tampered();
    const decipher = createDecipheriv(ALGORITHM, this.#key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    try {
      return Buffer.concat([
        decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES)),
        decipher.final(),
      ]);
    } catch (cause) {
      throw tampered(cause);
    }
  }
}

function tampered(cause?: unknown): MigrationError {
  return new MigrationError(
    'INTEGRITY_ERROR',
    'connect',
    'a message is not what the peer has sent: somebody on the way has changed, repeated or left out one',
    { cause },
  );
}

/** A connection whose messages are sealed here from {@link protect} on, and nothing else that it carries. */
export class SealedMessages implements Protectable {
  readonly #port: MessagePort;
  #outgoing: Sealing | undefined;
  #incoming: Sealing | undefined;

  constructor(port: MessagePort) {
    this.#port = port;
  }

  async protect({ send, receive }: TrafficSecrets): Promise<void> {
    this.#outgoing = new Sealing(send);
    this.#incoming = new Sealing(receive);
  }

  /** Sealed at the call: in the order of the calls. What the connection throws has not been posted: nobody sees it, and its number is the next one's. */
  send(message: Uint8Array): Promise<void> {
    if (!this.#outgoing) return this.#port.send(message);
    const sent = this.#port.send(this.#outgoing.seal(message));
    this.#outgoing.count();
    return sent;
  }

  /** @throws MigrationError INTEGRITY_ERROR: not what the peer has sent; and what the connection throws */
  async receive(): Promise<Uint8Array | null> {
    const message = await this.#port.receive();
    return message === null || !this.#incoming ? message : this.#incoming.open(message);
  }
}

/**
 * Keys of a migration's connections, from the TLS session of its first one: exported as RFC 8446, section 7.5 says, so that nobody has them
 * who was not part of the handshake. They are bound to what both ends said in the clear before it: whoever changed a flag there gets other keys.
 */
import { createHash, hkdfSync } from 'node:crypto';
import { MigrationError } from '../errors.ts';
import type { TlsRole } from './credentials.ts';
import type { Exporter } from './handshake.ts';

/** Of the exporter. */
const LABEL = 'EXPERIMENTAL-rdma-migrate-1';
/** As TLS_AES_256_GCM_SHA384 has them, whatever suite the handshake had: records are of that one (native/iwarp/record.h). */
const HASH = 'sha384';
const SECRET_BYTES = 48;

/** {@link SECRET_BYTES} each, for one connection; whoever has used them wipes them. */
export interface TrafficSecrets {
  readonly send: Buffer;
  readonly receive: Buffer;
}

/** What both ends have said before TLS, each side as bytes. */
export interface ClearHandshake {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
}

export class SessionKeys {
  readonly #secret: Buffer;
  readonly #role: TlsRole;
  #wiped = false;

  /** `secret`: the session's, as {@link exporterOf} asks for it. It is this object's from now on. */
  constructor(secret: Buffer, role: TlsRole) {
    this.#secret = secret;
    this.#role = role;
  }

  /**
   * Of the connection that carries the messages (0), or of one of its rails. Each one has keys of its own, and each direction: an end may use them
   * for one connection only, never again for one that takes its place.
   */
  traffic(rail: number): TrafficSecrets {
    const [client, server] = [this.#derive(`rail ${rail} client`), this.#derive(`rail ${rail} server`)];
    return this.#role === 'client' ? { send: client, receive: server } : { send: server, receive: client };
  }

  /** What a rail shows in the clear to be let in: nobody else can know it before. A u64. */
  railToken(rail: number): bigint {
    return this.#derive(`token ${rail}`).readBigUInt64BE();
  }

  #derive(what: string): Buffer {
    if (this.#wiped)
      throw new MigrationError('CLOSED', 'close', 'the keys of this connection have been wiped');
    return Buffer.from(hkdfSync(HASH, this.#secret, '', `rdma-migrate ${what}`, SECRET_BYTES));
  }

  /** They are not needed any more: whoever asks for some is thrown CLOSED. */
  wipe(): void {
    this.#wiped = true;
    this.#secret.fill(0);
  }
}

/** What the session is asked for. */
export const exporterOf = (clear: ClearHandshake): Exporter => ({
  label: LABEL,
  context: contextOf(clear),
  length: SECRET_BYTES,
});

/** Length before content, so that no byte can move from one to the other. */
function contextOf({ request, reply }: ClearHandshake): Buffer {
  const hash = createHash(HASH);
  for (const part of [request, reply]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return hash.digest();
}

export function wipe(secrets: TrafficSecrets): void {
  secrets.send.fill(0);
  secrets.receive.fill(0);
}

/** What is told of a migration that TLS protects. */
import type { Connection } from '../transport/connection.ts';
import type { Secured } from '../transport/secured.ts';
import { peerName } from '../trust/authorize.ts';
import type { Journal } from './journal.ts';

/** Who the peer has proved to be, and by what. Plain data. */
export interface TlsFacts {
  /** Of the handshake: `TLS_AES_256_GCM_SHA384`. What protects RAM is AES-256-GCM whatever it is. */
  readonly cipher: string;
  /** Of the peer's certificate, RFC 4514: `CN=host-b,O=Example`. */
  readonly subject?: string;
  /** Its alternative names: `DNS:host-b.example`, `IP Address:192.0.2.7`. */
  readonly names?: readonly string[];
  /** Instead of both: the name of the key that both ends know. */
  readonly 'psk-name'?: string;
}

export function tlsFacts({ peer, cipher }: Pick<Secured, 'peer' | 'cipher'>): TlsFacts {
  const { subject, names, pskName } = peer;
  if (pskName !== undefined) return { cipher, 'psk-name': pskName };
  return { cipher, ...(subject !== undefined && { subject }), names };
}

/** `TLS 1.3 (TLS_AES_256_GCM_SHA384), peer CN=host-b,O=Example` */
export function tlsInWords({ cipher, subject, names = [], 'psk-name': key }: TlsFacts): string {
  const peer = subject || names.join(', ') || 'without a name';
  return `TLS 1.3 (${cipher}), peer ${key === undefined ? peer : `with the key ${key}`}`;
}

/** A sentence for the log of either end, once the peer is known; of a connection without TLS nothing is said. */
export function tellProtection({ secured }: Pick<Connection, 'secured'>, journal: Journal): void {
  if (!secured) return;
  const { peer, cipher, encrypted } = secured;
  const ram = encrypted
    ? 'RAM is encrypted'
    : 'RAM crosses the fabric in clear, messages and device state do not: RDMA devices do not encrypt WRITEs';
  journal.notice('PROTECTED', `protected by ${tlsInWords(tlsFacts(secured))}; ${ram}`, {
    peer: peerName(peer),
    cipher,
    encrypted,
  });
}

/** What an end of a migration is given to prove who it is, and to know who the other is. */
import type { X509Certificate } from 'node:crypto';

/** PEM text. */
export type Pem = string | Uint8Array;

/** TLS's word for an end: a source is the client, a destination the server. */
export type TlsRole = 'client' | 'server';

/** Certificates as objects, for an embedder that keeps them elsewhere than in files. */
export interface X509Credentials {
  /** The authorities that sign the peer's certificate. No others count: not the system's, not Node's. */
  readonly ca: Pem;
  /** The certificates that these authorities have revoked. If it is given, one of every authority must be there. */
  readonly crl?: Pem;
  /** This end's certificate, followed by intermediate ones if there are any, and its key, not encrypted. A destination needs both. */
  readonly cert?: Pem;
  readonly key?: Pem;
}

/** Keys that both ends know, by their names: 16 to 64 bytes, as bytes or in hexadecimal. */
export interface PskCredentials {
  readonly keys: Readonly<Record<string, string | Uint8Array>>;
}

/** Whoever has shown a certificate, or has proved that it knows a key. */
export interface TlsPeer {
  /** What has been verified against the CA; absent with a key. */
  readonly certificate?: X509Certificate;
  /** RFC 4514: `CN=host-b,O=Example`; absent with a key. */
  readonly subject?: string;
  /** The certificate's alternative names, with their kind: `DNS:host-b.example`, `IP Address:192.0.2.7`, `URI:spiffe://example/b`. */
  readonly names: readonly string[];
  /** The name of the key that both ends know; absent with a certificate. */
  readonly pskName?: string;
}

/**
 * Says whether a peer that has proved who it is may take part. Only `true` lets it in: a promise of anything else, an exception, or no answer
 * in time refuses it.
 */
export type Authorize = (peer: TlsPeer) => boolean | PromiseLike<boolean>;

/** Protects a migration with TLS 1.3; both ends prove who they are. */
export interface TlsOptions {
  /**
   * A folder as QEMU's `tls-creds-x509` has it (`ca-cert.pem`, `ca-crl.pem` if there is one, `server-cert.pem` and `server-key.pem` at the
   * destination, `client-cert.pem` and `client-key.pem` at the source; what is in /etc/pki/qemu fits) or its `tls-creds-psk` (`keys.psk`, lines
   * `name:hexkey`); or the same as an object.
   */
  readonly creds: string | X509Credentials | PskCredentials;
  /** QEMU's `username` of `tls-creds-psk`: which key a source shows. Default `qemu`. */
  readonly pskName?: string;
  /**
   * Who may take part, of all that the CA has signed: distinguished names (`CN=host-a,O=Example`), common names, alternative names (host names,
   * addresses, URIs), or names of keys. Each exactly; there are no patterns. Default: all of them.
   */
  readonly authz?: readonly string[];
  /** Asked after `authz`, for at most ten seconds. */
  readonly authorize?: Authorize;
}

export interface SourceTlsOptions extends TlsOptions {
  /** QEMU's `tls-hostname`: whom the destination's certificate must name, a host name or an address. Default: the host of the URI. */
  readonly hostname?: string;
}

/** A certificate chain and its key. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** Loaded, and good enough for {@link contextOptions}. */
export type Credentials =
  | {
      readonly kind: 'x509';
      readonly ca: string;
      readonly crl?: string;
      /** This end's; a client may have none. */
      readonly pair?: Pair;
    }
  | { readonly kind: 'psk'; readonly keys: ReadonlyMap<string, Uint8Array> };

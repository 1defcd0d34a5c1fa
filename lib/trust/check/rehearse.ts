/** Both ends of a handshake within this process: the same code, and OpenSSL's own verdict, revoked certificates included. */
import { duplexPair } from 'node:stream';
import { toMigrationError } from '../../errors.ts';
import type { Credentials } from '../credentials.ts';
import { type Exporter, handshake } from '../handshake.ts';
import { type Finding, finding } from './finding.ts';

const TIMEOUT_MS = 10_000;
const EXPORTER: Exporter = {
  label: 'EXPERIMENTAL rdma-migrate doctor',
  context: Buffer.alloc(0),
  length: 32,
};

export async function rehearse(
  { client, server }: { readonly client: Credentials; readonly server: Credentials },
  names: { readonly hostname: string; readonly pskName?: string },
  signal?: AbortSignal,
): Promise<Finding> {
  const judged = finding('tls-handshake', 'TLS handshake with itself');
  const over = new AbortController();
  const limits = {
    timeoutMs: TIMEOUT_MS,
    signal: signal ? AbortSignal.any([signal, over.signal]) : over.signal,
  };
  const [serverEnd, clientEnd] = duplexPair();
  try {
    // The end that refuses is the first to fail, and knows why.
    await Promise.all([
      handshake(serverEnd, { role: 'server', credentials: server, ...names }, EXPORTER, limits),
      handshake(clientEnd, { role: 'client', credentials: client, ...names }, EXPORTER, limits),
    ]);
    return judged.ok('client and server of this folder accept each other');
  } catch (error) {
    return judged.fail(
      toMigrationError(error, 'configure').message,
      'mend what is said above; if nothing is, the list of revoked certificates (ca-crl.pem)',
    );
  } finally {
    over.abort();
  }
}

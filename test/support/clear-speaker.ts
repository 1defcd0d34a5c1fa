/** Ends that go through the TLS handshake, have the keys, and speak on in the clear. */
import { native } from '../../lib/native/index.ts';
import type { NativeConnection } from '../../lib/native/transport.ts';
import { answerCapabilities, requestCapabilities } from '../../lib/protocol/capabilities.ts';
import { encodeControl } from '../../lib/protocol/control.ts';
import { unpadded } from '../../lib/protocol/extension.ts';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import { RecordPort } from '../../lib/transport/record-port.ts';
import type { Trust } from '../../lib/trust/handshake.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import { protect } from '../../lib/trust/protection.ts';
import { Requests } from '../transport/native-pair.ts';

const OPTIONS = {
  crc: false,
  connectTimeoutMs: 10_000,
  stallTimeoutMs: 10_000,
  holdUntilProtected: true,
} as const;
const OFFER = { pinAll: false, commit: true, softwareRnic: true, tls: true } as const;

/** Where it should protect, it says something in the clear, and goes on as if it had not. */
class ClearPort extends RecordPort {
  readonly #says: Uint8Array;

  constructor(connection: NativeConnection, says: Uint8Array) {
    super(connection);
    this.#says = says;
  }

  override async protect(): Promise<void> {
    await this.send(this.#says);
  }
}

interface Said {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
}

async function handshake(
  port: ClearPort,
  folder: string,
  role: Trust['role'],
  { request, reply }: Said,
): Promise<void> {
  const trust = { role, credentials: await loadCredentials(folder, role), hostname: '' };
  const clear = { request: unpadded(request), reply: unpadded(reply) };
  await protect(port, trust, clear, { timeoutMs: 10_000 });
}

export class ClearSpeakingDestination implements AsyncDisposable {
  readonly #requests: Requests;
  readonly #connection = native.createConnection('iwarp', OPTIONS);

  private constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** Serves the first that comes. `folder`: its credentials. */
  static async listen(folder: string): Promise<ClearSpeakingDestination> {
    const destination = new ClearSpeakingDestination(await Requests.listen());
    destination.#serve(folder).catch(() => {}); // it hears records, and waits for what it understands
    return destination;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${this.#requests.endpoint.port}`;
  }

  async #serve(folder: string): Promise<void> {
    const request = await this.#requests.next();
    const { reply } = answerCapabilities(request.privateData, OFFER);
    await this.#connection.accept(request, reply, true);
    const port = new ClearPort(this.#connection, encodeControl({ type: 'READY' }));
    await handshake(port, folder, 'server', { request: request.privateData, reply });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
    await this.#requests[Symbol.asyncDispose]();
  }
}

/** Connects as a source. It stays until it is disposed of. */
export async function speakClearly(uri: string, folder: string): Promise<AsyncDisposable> {
  const connection = native.createConnection('iwarp', OPTIONS);
  const request = requestCapabilities(OFFER);
  const reply = await connection.connect(parseRdmaUri(uri), request);
  const port = new ClearPort(connection, encodeControl({ type: 'READY' }));
  handshake(port, folder, 'client', { request, reply }).catch(() => {}); // the destination ends it
  return { [Symbol.asyncDispose]: () => connection.close() };
}

/** Both ends of a native connection over the software RNIC, without a migration. */
import { native } from '../../lib/native/index.ts';
import type {
  NativeConnection,
  NativeConnectionRequest,
  NativeListener,
} from '../../lib/native/transport.ts';

export const OPTIONS = { crc: false, connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 };
export const NOTHING = new Uint8Array();

/** A listener that keeps its requests in order. */
export class Requests implements AsyncDisposable {
  /** Those that nobody has taken with {@link next}. */
  readonly arrived: NativeConnectionRequest[] = [];
  readonly #listener: NativeListener;
  readonly #waiting: ((request: NativeConnectionRequest) => void)[] = [];

  private constructor(listen: (onRequest: (request: NativeConnectionRequest) => void) => NativeListener) {
    this.#listener = listen((request) => {
      const waiting = this.#waiting.shift();
      if (waiting) waiting(request);
      else this.arrived.push(request);
    });
  }

  static async listen(): Promise<Requests> {
    let told = (_: NativeConnectionRequest): void => {};
    const listener = await native.listen(
      'iwarp',
      { host: '127.0.0.1', port: 0 },
      OPTIONS,
      (request) => told(request),
      () => {},
      () => {},
    );
    return new Requests((onRequest) => {
      told = onRequest;
      return listener;
    });
  }

  get endpoint(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.#listener.port };
  }

  /** The oldest request that nobody has taken. */
  async next(): Promise<NativeConnectionRequest> {
    return this.arrived.shift() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
  }
}

export class NativePair implements AsyncDisposable {
  readonly requests: Requests;
  readonly source: NativeConnection;
  readonly destination: NativeConnection;

  private constructor(requests: Requests) {
    this.requests = requests;
    this.source = native.createConnection('iwarp', OPTIONS);
    this.destination = native.createConnection('iwarp', OPTIONS);
  }

  /** `rails`: queue pairs in all. */
  static async connect(rails = 1): Promise<NativePair> {
    const pair = new NativePair(await Requests.listen());
    const { source, destination, requests } = pair;
    const connected = source.connect(requests.endpoint, NOTHING);
    await destination.accept(await requests.next(), NOTHING, true);
    await connected;
    for (let rail = 1; rail < rails; rail += 1) {
      const established = source.connectRail(requests.endpoint, NOTHING, 10_000);
      await destination.acceptRail(await requests.next(), NOTHING);
      await established;
    }
    return pair;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.source.close(), this.destination.close()]);
    await this.requests[Symbol.asyncDispose]();
  }
}

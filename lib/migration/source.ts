import { MigrationError, toMigrationError } from '../errors.ts';
import {
  type Agreed,
  acceptCapabilities,
  type Offer,
  requestCapabilities,
} from '../protocol/capabilities.ts';
import { parseRdmaUri } from '../protocol/uri.ts';
import type { SourceVm } from '../ram/vm.ts';
import { connect } from '../transport/connect.ts';
import type { Connection } from '../transport/connection.ts';
import { chooseProvider } from '../transport/provider.ts';
import { throwIfAborted } from '../transport/wait.ts';
import { Migration } from './migration.ts';
import { connectionOptions, type SourceOptions } from './options.ts';
import { describe, type MigrationFacts, type MigrationResult } from './result.ts';
import { SourceSession } from './source-session.ts';

/**
 * Sends one VM to a waiting destination: QEMU's `-incoming rdma:host:port`, or a {@link MigrationDestination}.
 *
 * @example
 * const source = new MigrationSource(vm, 'rdma:host:4444', { pinAll: true });
 * const result = await source.migrate({ signal });
 */
export class MigrationSource extends Migration {
  readonly #vm: SourceVm;
  readonly #uri: string;
  readonly #options: SourceOptions;
  #begun = false;

  /** The VM stays the caller's: it is read, never changed, and the caller closes it. */
  constructor(vm: SourceVm, uri: string, options: SourceOptions = {}) {
    super();
    this.#vm = vm;
    this.#uri = uri;
    this.#options = options;
  }

  /**
   * Runs the migration, once.
   * @throws MigrationError with the phase it failed in. Unless the code is COMMIT_UNKNOWN the VM at the source is as it was and may
   *   go on running; with COMMIT_UNKNOWN the destination may have it: look there first.
   */
  async migrate({ signal }: { signal?: AbortSignal } = {}): Promise<MigrationResult> {
    if (this.#begun)
      throw new MigrationError('INVALID_ARGUMENT', 'configure', 'this migration has been started already');
    this.#begun = true;
    try {
      const result = await this.#run(signal);
      this.statistics.status = 'completed';
      return { ...result, ...this.current, status: 'completed' };
    } catch (error) {
      const failure = toMigrationError(error, this.statistics.phase);
      this.statistics.status = failure.code === 'CANCELLED' ? 'cancelled' : 'failed';
      throw failure;
    } finally {
      this.end();
    }
  }

  async #run(signal: AbortSignal | undefined): Promise<MigrationFacts> {
    throwIfAborted(signal, 'configure');
    const endpoint = parseRdmaUri(this.#uri);
    const provider = await chooseProvider(this.#options.provider ?? 'auto', endpoint, 'connect');
    throwIfAborted(signal, 'configure');
    const offer: Offer = { pinAll: this.#options.pinAll ?? false, commit: this.#options.commit !== 'off' };
    this.enter('connect');
    const options = connectionOptions(this.#options);
    const connection = await connect(provider.name, endpoint, requestCapabilities(offer), options, signal);
    try {
      const agreed = this.#negotiate(connection, offer);
      const session = new SourceSession({
        vm: this.#vm,
        connection,
        agreed,
        statistics: this.statistics,
        limits: { timeoutMs: options.stallTimeoutMs, signal },
        verify: this.#options.verify ?? false,
        enter: (phase) => this.enter(phase),
      });
      connection.setMaxBandwidth(this.#options.maxBandwidth ?? 0n);
      return describe(connection, agreed, provider, this.#vm.layout.machine, await session.run());
    } catch (error) {
      const failure = toMigrationError(error, this.statistics.phase);
      await connection.fail();
      throw failure;
    } finally {
      await connection.close();
    }
  }

  #negotiate(connection: Connection, offer: Offer): Agreed {
    this.enter('negotiate');
    const agreed = acceptCapabilities(connection.privateData, offer);
    if (this.#options.commit === 'require' && !agreed.commit) {
      throw new MigrationError(
        'VERSION_MISMATCH',
        'negotiate',
        'the destination has no commit handshake (a stock QEMU has none) and commit is required: allow commit auto to send to it',
      );
    }
    if (offer.pinAll && !agreed.pinAll) {
      this.emit('notice', 'the destination declined pin-all: registering dynamically');
    }
    return agreed;
  }
}

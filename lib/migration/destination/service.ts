import { EventEmitter } from 'node:events';
import { MigrationError } from '../../errors.ts';
import type { DestinationTarget } from '../../ram/vm.ts';
import { throwIfAborted, within } from '../../transport/wait.ts';
import { call, tell } from '../embedder.ts';
import { type NoticeEvent, notice } from '../events.ts';
import type { MigrationLogger } from '../logger.ts';
import { checkRunOptions, checkServiceOptions } from '../option-schema.ts';
import { maxMigrations, type ServiceOptions } from '../options.ts';
import { Acceptor, type SayNotice } from './acceptor.ts';
import { MigrationDestination } from './destination.ts';
import type { AdmittedSource } from './source-gate.ts';

/** A target that does not close must not keep its place for ever, nor the service from its end. */
const CLOSE_TIMEOUT_MS = 60_000;
const CLOSING = { phase: 'close', what: 'the target to close', waitingFor: 'target' } as const;

/** Whose VM comes. */
export interface IncomingVm {
  /** A UUID: the source's, or of a version 1 source, which has none, a new one. */
  readonly migrationId: string;
  /** host:port */
  readonly peer: string;
}

/** A target of a service, which closes it when its migration has ended, whatever became of the VM. An `ImageWriter` is one. `describe` is not called: sources of a service describe nothing. */
export interface ServiceTarget extends DestinationTarget {
  /** Idempotent. */
  close(): Promise<void>;
}

/** Makes the target of one VM. What it throws is the end of that migration alone, and is told to its source. */
export type OpenServiceTarget = (vm: IncomingVm, migration: MigrationDestination) => Promise<ServiceTarget>;

/** What becomes of the migrations that are under way: they go on to their ends, or are cancelled. */
export type DrainPolicy = 'finish' | 'cancel';

/** Events of a {@link MigrationService}. What becomes of each migration is told by its own events. */
export interface MigrationServiceEvents {
  /** A source was let in; its migration begins. */
  migration: [migration: MigrationDestination, vm: IncomingVm];
  /** Of those who came and were not let in, and of the listener itself. */
  notice: [message: string, notice: NoticeEvent];
}

/**
 * Receives one VM after another, and many at once, at one address. Each migration has limits, target, events and end of its own: what a source says or
 * does ends no other's. At most `maxMigrations` are under way; `maxRam` is for all of them together. Limits of strangers hold for the listener that
 * they share.
 *
 * @example
 * await using service = await MigrationService.listen('rdma:0.0.0.0:4444', ({ migrationId }) => ImageWriter.open(`/vms/${migrationId}`), {
 *   ramIsFresh: true,
 * });
 * service.on('migration', (migration) => migration.on('end', ({ status }) => console.log(migration.migrationId, status)));
 * process.once('SIGTERM', () => service.drain());
 * await service.serve();
 */
export class MigrationService extends EventEmitter<MigrationServiceEvents> {
  readonly #options: ServiceOptions;
  readonly #open: OpenServiceTarget;
  readonly #acceptor: Acceptor;
  /** Each with its end, which never rejects. */
  readonly #underWay = new Map<MigrationDestination, Promise<void>>();
  /** Whose target has the id. */
  readonly #ids = new Map<string, MigrationDestination>();
  readonly #drained = new AbortController();
  #served: Promise<void> | undefined;

  private constructor(acceptor: Acceptor, open: OpenServiceTarget, options: ServiceOptions) {
    super();
    this.#acceptor = acceptor;
    this.#open = open;
    this.#options = options;
  }

  /**
   * Listens at a URI; port 0 takes any free port, see `uri`. Sources are let in once `serve` runs.
   * @throws MigrationError INVALID_ARGUMENT, INVALID_URI, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, PROVIDER_UNAVAILABLE, CREDENTIALS_INVALID
   */
  static async listen(
    uri: string,
    open: OpenServiceTarget,
    options: ServiceOptions = {},
  ): Promise<MigrationService> {
    checkServiceOptions(options);
    if (typeof open !== 'function') throw noOpener(open);
    const most = maxMigrations(options);
    const acceptor = await Acceptor.at(uri, options, {
      ramIsFresh: options.ramIsFresh === true,
      describes: false,
      continues: false,
      most,
      full: () => (service.underWay >= most ? busy(most) : undefined),
      notice: (...said) => service.#notice(...said),
    });
    const service = new MigrationService(acceptor, open, options);
    await acceptor.listen();
    return service;
  }

  /** Where it listens, with the real port. */
  get uri(): string {
    return this.#acceptor.uri;
  }

  /** How many migrations are under way. */
  get underWay(): number {
    return this.#underWay.size;
  }

  /**
   * Lets sources in until {@link drain}, once, and resolves when the last migration has ended. How each ended is its own affair: subscribe to it at the
   * `migration` event. `signal`: cancels, as `drain('cancel')` does.
   * @throws MigrationError LOCKED_MEMORY_LIMIT: nothing could be pinned. LISTEN_FAILED: the device is gone; those that were under way have ended
   */
  async serve(options: { signal?: AbortSignal } = {}): Promise<void> {
    checkRunOptions(options);
    if (this.#served)
      throw new MigrationError('INVALID_ARGUMENT', 'configure', 'this service serves already');
    const { signal } = options;
    const cancel = (): void => this.drain('cancel');
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
    this.#served = this.#serve();
    this.#served.catch(() => {}); // close() waits for it, and the caller is told
    try {
      await this.#served;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  async #serve(): Promise<void> {
    const { deaf } = this.#acceptor;
    try {
      if (!this.#drained.signal.aborted) this.#acceptor.every((source) => this.#take(source));
      await aborted(AbortSignal.any([this.#drained.signal, deaf]));
    } finally {
      this.#acceptor.shut(drains());
      while (this.#underWay.size > 0) await Promise.all(this.#underWay.values());
      await this.#acceptor.close();
    }
    if (!this.#drained.signal.aborted) throwIfAborted(deaf, 'listen');
  }

  /**
   * Takes no source any more, and lets `serve` resolve when those that are under way have ended, or have been cancelled. It may be called again, to
   * cancel those that took too long.
   */
  drain(policy: DrainPolicy = 'finish'): void {
    this.#acceptor.shut(drains());
    this.#drained.abort(drains());
    if (policy === 'finish') return;
    for (const migration of this.#underWay.keys()) migration.close().catch(() => {});
  }

  /** Cancels what is under way, and waits until all has ended. Idempotent. */
  async close(): Promise<void> {
    this.drain('cancel');
    await this.#served?.catch(() => {});
    await this.#acceptor.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Must not throw. */
  #take(source: AdmittedSource): void {
    const { logger, ...options } = this.#options;
    const named = logger && { logger: naming(logger, () => vm.migrationId) };
    let opened: Promise<ServiceTarget> | undefined;
    const open = (): Promise<ServiceTarget> => {
      opened = this.#openFor(vm, migration);
      return opened;
    };
    const migration = MigrationDestination.of(this.#acceptor, source, open, { ...options, ...named });
    const vm = {
      migrationId: migration.migrationId as string,
      peer: source.connection.info.peerAddress,
    };
    const closeTarget = async (): Promise<void> => (await opened?.catch(() => undefined))?.close();
    this.#underWay.set(migration, this.#run(migration, vm, closeTarget));
  }

  async #run(
    migration: MigrationDestination,
    vm: IncomingVm,
    closeTarget: () => Promise<void>,
  ): Promise<void> {
    await Promise.resolve(); // it counts as under way before anybody hears of it
    this.emit('migration', migration, vm);
    // How it ends is told to those who have subscribed.
    await migration.receive().catch(() => {});
    const limits = { ...CLOSING, timeoutMs: CLOSE_TIMEOUT_MS } as const;
    await within(call(closeTarget), limits).catch((error: unknown) =>
      this.#notice(
        'ABORT_FAILED',
        `the target of migration ${vm.migrationId} could not be closed: ${wordsOf(error)}`,
      ),
    );
    if (this.#ids.get(vm.migrationId) === migration) this.#ids.delete(vm.migrationId);
    this.#underWay.delete(migration);
  }

  /** @throws MigrationError IMAGE_EXISTS: a source says that it is a migration which is under way */
  async #openFor(vm: IncomingVm, migration: MigrationDestination): Promise<ServiceTarget> {
    if (this.#ids.has(vm.migrationId)) throw isUnderWay(vm.migrationId);
    this.#ids.set(vm.migrationId, migration);
    return call(() => this.#open(vm, migration));
  }

  #notice(...[code, message, details]: Parameters<SayNotice>): void {
    const said = notice(code, message, details);
    const { logger } = this.#options;
    if (logger) tell(() => logger.info({ role: 'destination', ...said }, message), warn);
    this.emit('notice', message, said);
  }

  /** Tells every listener. What one throws is a warning of the process, and ends nothing here. */
  override emit<K>(
    event: K | keyof MigrationServiceEvents,
    ...details: K extends keyof MigrationServiceEvents ? MigrationServiceEvents[K] : never
  ): boolean {
    const listeners = this.rawListeners(event);
    for (const listener of listeners) tell(() => Reflect.apply(listener, this, details), warn);
    return listeners.length > 0;
  }
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

/** A logger that says of which migration each line is. */
function naming(logger: MigrationLogger, migrationId: () => string): MigrationLogger {
  const levels = LEVELS.map((level) => [
    level,
    (fields: object, text: string): unknown => logger[level]({ migrationId: migrationId(), ...fields }, text),
  ]);
  return Object.fromEntries(levels) as MigrationLogger;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function warn(error: unknown): void {
  const message = `a listener to a service failed, which takes no notice of it: ${wordsOf(error)}`;
  process.emitWarning(message, { code: 'RDMA_MIGRATE_LISTENER' });
}

const busy = (most: number): MigrationError =>
  new MigrationError('BUSY', 'negotiate', `${most} migrations are under way, which is as many as may be`, {
    details: { maxMigrations: most },
  });

const drains = (): MigrationError =>
  new MigrationError('BUSY', 'listen', 'the service is about to end, and takes no VM any more');

const isUnderWay = (migrationId: string): MigrationError =>
  new MigrationError('IMAGE_EXISTS', 'setup', `migration ${migrationId} is under way here already`, {
    details: { migrationId },
  });

const noOpener = (open: unknown): MigrationError =>
  new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `expected a function that opens a target but received ${String(open)} of type ${typeof open}`,
  );

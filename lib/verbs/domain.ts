import { toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeVerbsDomain, NativeVerbsRegion } from '../native/verbs.ts';
import { invalid } from '../options/check.ts';
import { type ChosenProvider, chooseProvider, type ProviderChoice } from '../transport/provider.ts';
import { type ConnectionRequest, lookAtRequest } from './connection-request.ts';
import type { MovedOptions, MovedRegion } from './domain-image.ts';
import { calling, closedError } from './failure.ts';
import { type MemoryRegion, makeRegion } from './memory-region.ts';
import { type Move, prepareMove } from './move.ts';
import { blocksOf, placeIn } from './move-blocks.ts';
import { checkAccess, checkDomain, checkMove, checkQueuePair } from './option-schema.ts';
import type { Access, DomainOptions, Endpoint, MoveOptions, QueuePairOptions } from './options.ts';
import { makeQueuePair, nativeOf, optionsOfQueuePair, type QueuePair } from './queue-pair.ts';
import { pinBuffer, unpinBuffer } from './registered-buffer.ts';
import { bytesOf, type Registrable } from './registrable.ts';

/** Bits of native/fabric/types.h. */
const LOCAL_WRITE = 1;
const REMOTE_WRITE = 2;
const REMOTE_READ = 4;

type Register = () => NativeVerbsRegion | Promise<NativeVerbsRegion>;

const EVERYWHERE: Endpoint = { host: '0.0.0.0', port: 0 };

let make: (native: NativeVerbsDomain, provider: ChosenProvider) => Domain;
let makeMoved: (native: NativeVerbsDomain, provider: ChosenProvider) => MovedDomain;

/**
 * Opens a protection domain.
 * @throws MigrationError PROVIDER_UNAVAILABLE, INVALID_ARGUMENT
 */
export async function openDomain(options: DomainOptions = {}): Promise<Domain> {
  checkDomain(options);
  const { provider = 'auto', peer, local } = options;
  const chosen = await choose(provider, peer ?? local ?? EVERYWHERE, peer ? 'connect' : 'listen');
  return calling('configure', () => make(native.openVerbsDomain(chosen.name), chosen));
}

/** A domain at the new place of a program, and how it is filled. */
export interface MovedDomain {
  readonly domain: Domain;
  createQueuePair(options: QueuePairOptions): QueuePair;
  queuePairs(): readonly QueuePair[];
  registerAs(
    bytes: Uint8Array,
    was: { key: number; wireBase: bigint; access: number },
  ): Promise<MemoryRegion>;
}

/** For {@link thaw}. */
export async function makeMovedDomain(): Promise<MovedDomain> {
  const chosen = await choose('iwarp', EVERYWHERE, 'listen');
  return calling('configure', () => makeMoved(native.openVerbsDomain(chosen.name), chosen));
}

/** As for a migration, but for the words. */
export async function choose(
  choice: ProviderChoice,
  endpoint: Endpoint,
  direction: 'connect' | 'listen',
): Promise<ChosenProvider> {
  const { name, reason } = await chooseProvider(choice, endpoint, direction);
  return { name, reason: reason.replace('the software RNIC carries the migration: ', 'no device: ') };
}

/** A protection domain: memory regions, and the queue pairs whose peers may use them by key. `openDomain()`. */
export class Domain implements AsyncDisposable {
  /** The provider in use and why. */
  readonly provider: ChosenProvider;
  /** True: registering holds the physical pages (RLIMIT_MEMLOCK counts), and takes time. */
  readonly pinsMemory: boolean;
  readonly #native: NativeVerbsDomain;
  readonly #regions = new Set<MemoryRegion>();
  readonly #registering = new Set<Promise<unknown>>();
  readonly #queuePairs = new Set<QueuePair>();
  #isMoving = false;
  #closing: Promise<void> | undefined;

  static {
    make = (native, provider) => new Domain(native, provider);
    makeMoved = (native, provider) => {
      const domain = new Domain(native, provider);
      return {
        domain,
        createQueuePair: (options) => domain.createQueuePair(options),
        queuePairs: () => [...domain.#queuePairs],
        registerAs: (bytes, was) =>
          domain.#add(bytes, was.access, () => domain.#native.registerAs(bytes, was)),
      };
    };
  }

  private constructor(native: NativeVerbsDomain, provider: ChosenProvider) {
    this.#native = native;
    this.provider = provider;
    this.pinsMemory = native.pinsMemory;
  }

  /**
   * Registers the bytes of an ArrayBuffer or a SharedArrayBuffer, or of a view of one. An ArrayBuffer can no longer be transferred
   * (postMessage copies it), for good; memory that threads share is better a SharedArrayBuffer. The memory of a WebAssembly module moves when
   * it grows: do not register it unless it is shared.
   *
   * `access`: default `{ localWrite: true }`.
   * @throws MigrationError INVALID_ARGUMENT, REGISTER_FAILED, LOCKED_MEMORY_LIMIT, CLOSED
   */
  async registerMemory(memory: Registrable, access: Access = { localWrite: true }): Promise<MemoryRegion> {
    checkAccess(access);
    const bytes = bytesOf(memory);
    this.#checkOpen();
    const { localWrite = false, remoteWrite = false, remoteRead = false } = access;
    const flags =
      (localWrite ? LOCAL_WRITE : 0) | (remoteWrite ? REMOTE_WRITE : 0) | (remoteRead ? REMOTE_READ : 0);
    return this.#add(bytes, flags, () => this.#native.registerMemory(bytes, flags));
  }

  async #add(bytes: Uint8Array, flags: number, register: Register): Promise<MemoryRegion> {
    const registered = await this.#register(bytes, register);
    const access = {
      localWrite: (flags & LOCAL_WRITE) !== 0,
      remoteWrite: (flags & REMOTE_WRITE) !== 0,
      remoteRead: (flags & REMOTE_READ) !== 0,
    };
    const region = makeRegion(registered, bytes, access, (closed) => this.#regions.delete(closed));
    this.#regions.add(region);
    return region;
  }

  async #register(bytes: Uint8Array, register: Register): Promise<NativeVerbsRegion> {
    pinBuffer(bytes.buffer);
    try {
      const registering = calling('verbs', register);
      if (!(registering instanceof Promise)) return registering;
      return await this.#untilRegistered(registering);
    } catch (error) {
      unpinBuffer(bytes.buffer);
      return calling('verbs', () => {
        throw error;
      });
    }
  }

  /** close() waits for it, and closes what has come of it. */
  async #untilRegistered(registering: Promise<NativeVerbsRegion>): Promise<NativeVerbsRegion> {
    this.#registering.add(registering);
    try {
      const region = await registering;
      if (this.#closing === undefined) return region;
      await region.close();
      throw closedError('the domain');
    } finally {
      this.#registering.delete(registering);
    }
  }

  /**
   * A queue pair in the state INIT, which belongs to this thread. It keeps the process running until it has ended.
   * @throws MigrationError INVALID_ARGUMENT, RESOURCE_LIMIT, CLOSED
   */
  createQueuePair(options: QueuePairOptions = {}): QueuePair {
    checkQueuePair(options);
    this.#checkOpen();
    return calling('configure', () => {
      const queuePair = makeQueuePair(
        (all, onWake) => this.#native.createQueuePair(all, onWake),
        options,
        (ended) => this.#queuePairs.delete(ended),
      );
      this.#queuePairs.add(queuePair);
      return queuePair;
    });
  }

  /**
   * Learns from a peer's request which device the domain is of, so that the regions' `rkey`s are right before `accept` and can travel in its
   * private data. Needed with the provider `verbs` only, once, and does nothing with the other. The request is still to be answered, after this
   * has settled: also if it fails.
   * @throws MigrationError INVALID_ARGUMENT (answered already), CONNECT_FAILED (the domain is another device's), REGISTER_FAILED,
   * LOCKED_MEMORY_LIMIT, RESOURCE_LIMIT, CLOSED
   */
  async bind(request: ConnectionRequest): Promise<void> {
    this.#checkOpen();
    const asked = lookAtRequest(request);
    try {
      await this.#native.bind(asked);
    } catch (error) {
      throw toMigrationError(error, 'verbs');
    }
  }

  /**
   * Takes every remote right from every region, for good. When it has resolved, nothing of a peer's is placed any more but its SENDs, and a
   * peer that uses a key ends its queue pair. No region with remote rights can be registered after it.
   */
  async revokeRemoteAccess(): Promise<void> {
    this.#checkOpen();
    await this.#native.revokeRemoteAccess();
  }

  /**
   * Tells every peer that its queue pairs are about to move to another process, with its regions' keys: docs/moving-connections.md. Each queue
   * pair has to be resumable and connected, and its peer's program does nothing for it. One move at a time, and nothing is connected meanwhile.
   * The software RNIC's.
   * @throws MigrationError INVALID_ARGUMENT (a queue pair cannot move; a region lies in no block), BUSY (a peer moves itself), CONNECT_FAILED
   * (a peer cannot reach the new place), TIMEOUT, CANCELLED, CLOSED. Nothing has changed then.
   */
  async prepareMove(options: MoveOptions): Promise<Move> {
    checkMove(options);
    this.#checkOpen();
    const blocks = blocksOf(options.blocks, this.#regions);
    const regions = (): MovedRegion[] =>
      [...this.#regions].map((region) => ({
        key: region.lkey,
        wireBase: region.addr,
        length: region.length,
        access:
          (region.access.localWrite ? LOCAL_WRITE : 0) |
          (region.access.remoteWrite ? REMOTE_WRITE : 0) |
          (region.access.remoteRead ? REMOTE_READ : 0),
        ...placeIn(blocks, region.memory),
      }));
    regions(); // what lies in no block is told of now
    if (this.#isMoving) throw invalid('the domain moves already');
    const queuePairs = [...this.#queuePairs].map((queuePair) => ({
      native: nativeOf(queuePair),
      options: movedOptions(queuePair),
    }));
    this.#isMoving = true;
    return await prepareMove(
      {
        queuePairs,
        regions,
        close: () => this.close(),
        stay: () => {
          this.#isMoving = false;
        },
      },
      options,
    );
  }

  /** Closes its queue pairs, then its regions. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#registering);
    await Promise.all([...this.#queuePairs].map((queuePair) => queuePair.close()));
    await Promise.all([...this.#regions].map((region) => region.close()));
    this.#native.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closedError('the domain');
  }
}

/** @throws MigrationError INVALID_ARGUMENT: it outlives nothing */
function movedOptions(queuePair: QueuePair): MovedOptions {
  const { resume, ...options } = optionsOfQueuePair(queuePair);
  if (resume === undefined) throw invalid('only a queue pair with `resume`, at both ends, can move');
  return { ...options, resume: { windowMs: resume.windowMs, retryMs: resume.retryMs } };
}

/** The new place of a domain that moves. The old one is in move.ts. */
import { MigrationError } from '../errors.ts';
import type { Domain } from './domain.ts';
import { type MovedDomain, makeMovedDomain } from './domain.ts';
import {
  type DomainImage,
  decodeAnnouncement,
  decodeDomainImage,
  type MovedOptions,
  type MovedQueuePair,
} from './domain-image.ts';
import { calling, closedError } from './failure.ts';
import type { MemoryRegion } from './memory-region.ts';
import { checkThaw } from './option-schema.ts';
import type { ThawOptions } from './options.ts';
import { nativeOf, type QueuePair } from './queue-pair.ts';

/**
 * Makes the queue pairs that an announcement tells of, so that their peers find them ahead of the image. A listener of this process has to be open
 * where the move goes `to`.
 * @throws MigrationError IMAGE_INVALID, RESOURCE_LIMIT
 */
export async function expectMove(announcement: Uint8Array): Promise<ExpectedMove> {
  const announced = decodeAnnouncement(announcement);
  const made = await makeMovedDomain();
  try {
    for (const { options, bytes } of announced) {
      const queuePair = made.createQueuePair(options);
      calling('verbs', () => nativeOf(queuePair).expect(bytes));
    }
    return makeExpected(made, announced);
  } catch (error) {
    await made.domain.close();
    throw error;
  }
}

let makeExpected: (made: MovedDomain, announced: readonly MovedQueuePair[]) => ExpectedMove;
let takeExpected: (expected: ExpectedMove) => Made;

interface Made {
  readonly made: MovedDomain;
  readonly announced: readonly MovedQueuePair[];
}

/** A move that has been announced: {@link expectMove}. Goes into `thaw`, or is closed. */
export class ExpectedMove implements AsyncDisposable {
  #made: Made | undefined;

  static {
    makeExpected = (made, announced) => new ExpectedMove({ made, announced });
    takeExpected = (expected) => expected.#take();
  }

  private constructor(made: Made) {
    this.#made = made;
  }

  #take(): Made {
    const made = this.#made;
    if (made === undefined) throw closedError('the expected move');
    this.#made = undefined;
    return made;
  }

  /** It does not come. The peers look for it in vain, until the move is aborted or their longest pause is over. Idempotent. */
  async close(): Promise<void> {
    const made = this.#made;
    this.#made = undefined;
    await made?.made.domain.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * What was frozen, as it was: the same keys, the same addresses in the eyes of work requests and peers, the same requests in the queues. Its
 * memory must hold by `takeOver()` what it held when it was frozen.
 * @throws MigrationError IMAGE_INVALID (damaged; or the memory is too small, or of another queue pair than was expected), REGISTER_FAILED,
 * RESOURCE_LIMIT, CLOSED. Nothing of it is left then, and the old place can go on.
 */
export async function thaw(image: Uint8Array, options: ThawOptions): Promise<Thawed> {
  checkThaw(options);
  const { memory, expected } = options;
  const decoded = decodeDomainImage(image);
  const { made, announced } = expected
    ? takeExpected(expected)
    : { made: await makeMovedDomain(), announced: undefined };
  try {
    const regions = await registerAll(made, decoded, memory);
    const queuePairs = await thawAll(made, decoded, announced);
    return new Thawed(made.domain, regions, queuePairs, decoded.longestPauseMs);
  } catch (error) {
    await made.domain.close();
    throw error;
  }
}

async function registerAll(
  made: MovedDomain,
  { regions }: DomainImage,
  memory: ThawOptions['memory'],
): Promise<MemoryRegion[]> {
  const blocks = new Map<string, Uint8Array>();
  const registered: MemoryRegion[] = [];
  for (const { block, offset, length, ...was } of regions) {
    let bytes = blocks.get(block);
    if (bytes === undefined) {
      bytes = await memory(block);
      blocks.set(block, bytes);
    }
    if (offset + length > bytes.byteLength)
      throw invalidImage(
        `a region of ${length} bytes at ${offset} leaves the memory of the block '${block}'`,
      );
    registered.push(await made.registerAs(bytes.subarray(offset, offset + length), was));
  }
  return registered;
}

async function thawAll(
  made: MovedDomain,
  { queuePairs }: DomainImage,
  announced: readonly MovedQueuePair[] | undefined,
): Promise<(QueuePair | null)[]> {
  if (announced !== undefined && announced.length !== queuePairs.length)
    throw invalidImage('it has another number of queue pairs than was announced');
  const expected = announced && made.queuePairs();
  return await Promise.all(
    queuePairs.map(async (moved, index) => {
      const queuePair = expected?.[index] ?? (moved && made.createQueuePair(moved.options));
      if (moved === null) {
        await queuePair?.close();
        return null;
      }
      if (announced && !isSame(announced[index]?.options, moved.options))
        throw invalidImage('a queue pair has other options than were announced');
      calling('verbs', () => nativeOf(queuePair as QueuePair).thaw(moved.bytes));
      return queuePair as QueuePair;
    }),
  );
}

const isSame = (a: MovedOptions | undefined, b: MovedOptions): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

const invalidImage = (what: string): MigrationError =>
  new MigrationError(
    'IMAGE_INVALID',
    'verbs',
    `the image of a program that moves does not fit here: ${what}`,
  );

/** A domain that has moved here, and stands still until `takeOver()`. */
export class Thawed implements AsyncDisposable {
  readonly domain: Domain;
  /** In the order in which they were registered. */
  readonly regions: readonly MemoryRegion[];
  /** In the order in which they were made, `SUSPENDED`. Requests can be posted already. `null`: it had ended before it was frozen. */
  readonly queuePairs: readonly (QueuePair | null)[];
  readonly #longestPauseMs: number;

  /** @internal */
  constructor(
    domain: Domain,
    regions: readonly MemoryRegion[],
    queuePairs: readonly (QueuePair | null)[],
    longestPauseMs: number,
  ) {
    this.domain = domain;
    this.regions = regions;
    this.queuePairs = queuePairs;
    this.#longestPauseMs = longestPauseMs;
  }

  /**
   * From here on it lives here: peers may come. Never before the old place has committed, or can no longer go on. Resolves when every peer is
   * there; the program need not wait for that.
   * @throws MigrationError CONNECTION_LOST (a peer did not come within the longest pause)
   */
  async takeOver(): Promise<void> {
    const live = this.queuePairs.filter((each) => each !== null);
    const there = live.map(isThere);
    for (const each of live) calling('verbs', () => nativeOf(each).takeOver(this.#longestPauseMs));
    await Promise.all(there);
  }

  /** It is not taken over, and the old place may go on. */
  close(): Promise<void> {
    return this.domain.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function isThere(queuePair: QueuePair): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = queuePair.onLinkChange(({ state }) => {
      if (state !== 'restored') return;
      stop();
      resolve();
    });
    void queuePair.closed.then((reason) => (reason === null ? resolve() : reject(reason)));
  });
}

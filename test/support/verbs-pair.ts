/** Two connected queue pairs of `rdma-migrate/verbs` in this process, each of a domain of its own. */
import {
  type Access,
  type Completion,
  type CompletionBatch,
  type ConnectionRequest,
  type Domain,
  type Listener,
  listen,
  type MemoryRegion,
  openDomain,
  type QueuePair,
  type QueuePairOptions,
} from 'rdma-migrate/verbs';

export const ALL: Access = { localWrite: true, remoteWrite: true, remoteRead: true };
export const LOOPBACK = { host: '127.0.0.1', port: 0 };

export interface End {
  readonly domain: Domain;
  readonly queuePair: QueuePair;
  /** What the other end sent along. */
  readonly privateData: Uint8Array;
}

export interface Pair extends AsyncDisposable {
  readonly listener: Listener;
  /** Who connected. */
  readonly left: End;
  /** Who accepted. */
  readonly right: End;
}

/** The next request of a listener. */
export async function nextRequest(listener: Listener): Promise<ConnectionRequest> {
  for await (const request of listener) return request;
  throw new Error('the listener has been closed');
}

export async function connectedPair(options: QueuePairOptions = {}, rightOptions = options): Promise<Pair> {
  const domains = await Promise.all([openDomain({ provider: 'iwarp' }), openDomain({ provider: 'iwarp' })]);
  const listener = await listen(LOOPBACK, { provider: 'iwarp' });
  const [left, right] = [domains[0].createQueuePair(options), domains[1].createQueuePair(rightOptions)];
  const connecting = left.connect(
    { host: '127.0.0.1', port: listener.port },
    { privateData: Buffer.from('from the left') },
  );
  const accepting = right.accept(await nextRequest(listener), {
    privateData: Buffer.from('from the right'),
    maySendAtOnce: true,
  });
  const [fromRight, fromLeft] = await Promise.all([connecting, accepting]);
  return {
    listener,
    left: { domain: domains[0], queuePair: left, privateData: fromRight },
    right: { domain: domains[1], queuePair: right, privateData: fromLeft },
    async [Symbol.asyncDispose]() {
      await listener.close();
      await Promise.all(domains.map((domain) => domain.close()));
    },
  };
}

/** Registered bytes, filled. */
export async function region(domain: Domain, bytes: number, fill = 0, access = ALL): Promise<MemoryRegion> {
  return domain.registerMemory(new SharedArrayBuffer(bytes), access).then((registered) => {
    registered.memory.fill(fill);
    return registered;
  });
}

/** The next completions, `count` of them, or fewer when the queue pair ends before. */
export async function complete(queuePair: QueuePair, count: number): Promise<Completion[]> {
  const taken: Completion[] = [];
  if (count === 0) return taken;
  for await (const batch of queuePair.completions()) {
    taken.push(...batch);
    if (taken.length >= count) break;
  }
  return taken;
}

/** Every completion until the queue pair has ended, however it does. */
export async function drain(queuePair: QueuePair): Promise<Completion[]> {
  await queuePair.closed;
  const taken: Completion[] = [];
  try {
    for await (const batch of queuePair.completions()) taken.push(...batch);
  } catch {
    // the reason is in `closed`
  }
  return taken;
}

/** Posts all of a batch, and takes completions where there is no room: those taken. */
export async function postAll(
  queuePair: QueuePair,
  post: (first: number) => number,
  count: number,
  batch: CompletionBatch,
): Promise<Completion[]> {
  const taken: Completion[] = [];
  let posted = 0;
  while (posted < count) {
    posted += post(posted);
    if (posted === count) break;
    for await (const done of queuePair.completions({ batch })) {
      taken.push(...done);
      break;
    }
  }
  return taken;
}

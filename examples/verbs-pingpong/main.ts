/**
 * How long a message takes there and back: SEND and RECV over `rdma-migrate/verbs`.
 *
 *     node main.js                                   both sides in this process
 *     node main.js --listen 0.0.0.0:7471             one side
 *     node main.js --connect HOST:7471 --size 64     the other
 */
import { setImmediate as turn } from 'node:timers/promises';
import {
  CompletionBatch,
  type ConnectionRequest,
  type Domain,
  type Endpoint,
  type Listener,
  type MemoryRegion,
  openDomain,
  type QueuePair,
  WorkRequestBatch,
} from 'rdma-migrate/verbs';
import type { Arguments } from '../verbs-ends/arguments.ts';
import { runExample } from '../verbs-ends/run.ts';

const USAGE = {
  text: `Usage: main.js [options]
Sends a message there and back, again and again, and prints how long that takes.

  --size BYTES          of a message; default 64. Both sides must be told the same
  --count N             messages that are measured; default 20000
  --poll                ask for completions again and again instead of waiting for them
                        (quicker, and takes a processor)`,
  numbers: { size: 64, count: 20_000 },
  switches: ['poll'],
};

const WARM_UP = 1_000;
/** RECVs of the side that answers. */
const ROOMS = 16;
/** Rounds of polling after which the event loop has its turn, for Ctrl-C. */
const SPINS = 4_096;

/** Two messages' room: the first half is sent, the second one received. */
class Player {
  readonly #queuePair: QueuePair;
  readonly #sends = new WorkRequestBatch(1);
  readonly #recvs = new WorkRequestBatch(1);
  readonly #done = new CompletionBatch(8);
  readonly #poll: boolean;

  constructor(queuePair: QueuePair, memory: MemoryRegion, { numbers, switches }: Arguments) {
    const size = numbers.size as number;
    this.#queuePair = queuePair;
    this.#poll = switches.poll === true;
    this.#sends.push({ opcode: 'SEND', ...memory.range(0, size), signaled: true });
    this.#recvs.push({ opcode: 'RECV', ...memory.range(size, size) });
  }

  /** Microseconds there and back, of each message. */
  async play(count: number, signal: AbortSignal): Promise<Float64Array> {
    const taken = new Float64Array(count);
    const completions = this.#poll ? undefined : this.#queuePair.completions({ batch: this.#done, signal });
    for (let index = 0; index < count; index += 1) {
      this.#queuePair.postRecv(this.#recvs);
      const began = performance.now();
      this.#queuePair.postSend(this.#sends);
      // the SEND's own completion, and the answer
      for (let due = 2; due > 0; due -= this.#done.length) {
        if (completions !== undefined) await completions.next();
        else await this.#spin(signal);
      }
      taken[index] = (performance.now() - began) * 1_000;
    }
    await completions?.return();
    return taken;
  }

  async #spin(signal: AbortSignal): Promise<void> {
    for (let spins = 1; this.#queuePair.pollCompletions(this.#done) === 0; spins += 1) {
      if (this.#queuePair.state === 'ERROR')
        throw (await this.#queuePair.closed) ?? new Error('the peer has left');
      if (spins % SPINS === 0) await turn();
      signal.throwIfAborted();
    }
  }
}

async function measure(endpoint: Endpoint, given: Arguments, signal: AbortSignal): Promise<void> {
  const size = given.numbers.size as number;
  await using domain = await openDomain({ provider: given.provider, peer: endpoint });
  const queuePair = domain.createQueuePair({ crc: given.crc });
  const memory = await domain.registerMemory(new SharedArrayBuffer(2 * size));
  await queuePair.connect(endpoint, { signal });
  const player = new Player(queuePair, memory, given);
  await player.play(WARM_UP, signal);
  const taken = (await player.play(given.numbers.count as number, signal)).sort();
  await queuePair.disconnect();
  report(taken, given, queuePair.info.detail, domain);
}

function report(sorted: Float64Array, given: Arguments, detail: string, domain: Domain): void {
  const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] as number;
  const result = {
    provider: domain.provider.name,
    detail,
    size: given.numbers.size,
    count: sorted.length,
    poll: given.switches.poll,
    'round-trip-us': { p50: at(0.5), p99: at(0.99), min: at(0), max: at(1) },
  };
  if (given.json) console.log(JSON.stringify(result));
  else
    console.log(
      `${result.provider} (${detail}), ${result.count} messages of ${result.size} bytes there and back: ` +
        `p50 ${at(0.5).toFixed(1)} us, p99 ${at(0.99).toFixed(1)} us, least ${at(0).toFixed(1)} us`,
    );
}

/** Sends back what comes, until the peer leaves. */
async function answer(domain: Domain, request: ConnectionRequest, size: number): Promise<void> {
  await using queuePair = domain.createQueuePair({ maxSendWr: ROOMS, maxRecvWr: ROOMS });
  await using memory = await domain.registerMemory(new SharedArrayBuffer(ROOMS * size));
  for (let room = 0; room < ROOMS; room += 1)
    queuePair.postRecv([{ wrId: room, ...memory.range(room * size, size) }]);
  await queuePair.accept(request, { maySendAtOnce: true });
  try {
    for await (const batch of queuePair.completions()) {
      for (const { opcode, wrId, byteLen, status } of batch) {
        if (status !== 'SUCCESS') continue;
        const room = Number(wrId) * size;
        // the same room receives again when the answer out of it has been sent
        if (opcode === 'RECV') queuePair.postSend([{ opcode: 'SEND', wrId, ...memory.range(room, byteLen) }]);
        else queuePair.postRecv([{ wrId, ...memory.range(room, size) }]);
      }
    }
  } catch (error) {
    // A peer that has all its answers leaves while a room is posted once more.
    if (queuePair.state !== 'ERROR' || (await queuePair.closed) !== null) throw error;
  }
}

async function serve(listener: Listener, given: Arguments): Promise<void> {
  await using domain = await openDomain({ provider: listener.provider.name });
  for await (const request of listener) {
    answer(domain, request, given.numbers.size as number).catch((error: Error) =>
      console.error(`${request.peerAddress}: ${error.message}`),
    );
  }
}

await runExample({ usage: USAGE, serve, measure }, import.meta.url);

/** Runs one side of an example, or both: then the side that waits has a thread of its own, as it would have a machine. */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Endpoint, type Listener, listen, MigrationError } from 'rdma-migrate/verbs';
import { type Arguments, interruption, readArguments, type Usage } from './arguments.ts';

export interface Example {
  readonly usage: Usage;
  /** Waits for peers, and serves each until it leaves. Ends when the listener is closed. */
  readonly serve: (listener: Listener, given: Arguments) => Promise<void>;
  /** Connects, and prints the result. */
  readonly measure: (endpoint: Endpoint, given: Arguments, signal: AbortSignal) => Promise<void>;
}

const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;

/** `url`: of the module that calls it, which is started again for the other thread. */
export async function runExample(example: Example, url: string): Promise<void> {
  if (!isMainThread) return serveInWorker(example);
  const given = readArguments(example.usage, process.argv.slice(2));
  const signal = interruption();
  try {
    if (given.listen !== undefined) await serve(example, given.listen, given, signal);
    else if (given.connect !== undefined) await example.measure(given.connect, given, signal);
    else await both(example, given, url, signal);
  } catch (error) {
    process.exitCode = tell(error, signal);
  }
}

function tell(error: unknown, signal: AbortSignal): number {
  if (signal.aborted) {
    console.error('interrupted');
    return EXIT_INTERRUPTED;
  }
  console.error(error instanceof MigrationError ? `${error.message} (${error.code})` : error);
  return EXIT_FAILED;
}

async function serve(
  example: Example,
  endpoint: Endpoint,
  given: Arguments,
  signal: AbortSignal,
): Promise<void> {
  await using listener = await listen(endpoint, { provider: given.provider, signal });
  console.error(`listening on ${listener.address} (${listener.provider.name}: ${listener.provider.reason})`);
  await example.serve(listener, given);
}

async function both(example: Example, given: Arguments, url: string, signal: AbortSignal): Promise<void> {
  const worker = new Worker(new URL(url), { workerData: given });
  try {
    const [port] = (await once(worker, 'message', { signal })) as [number];
    await example.measure({ host: '127.0.0.1', port }, given, signal);
  } finally {
    await worker.terminate();
  }
}

async function serveInWorker(example: Example): Promise<void> {
  const given = workerData as Arguments;
  await using listener = await listen({ host: '127.0.0.1', port: 0 }, { provider: given.provider });
  parentPort?.postMessage(listener.port);
  await example.serve(listener, given);
}

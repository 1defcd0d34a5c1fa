/** A migration with somebody in between, and what has become of both ends when it is over. */
import {
  MigrationDestination,
  type MigrationError,
  type MigrationResult,
  MigrationSource,
} from '../../../lib/index.ts';
import { outcome } from '../../support/endings.ts';
import { MemoryTarget } from '../../support/memory-vm.ts';
import { withDeadline } from '../../support/raw-iwarp.ts';
import { type Between, type Conversation, portOf, TcpProxy } from '../../support/tcp-proxy.ts';
import type { SecretVm } from './secret-vm.ts';
import type { Way } from './ways.ts';

export type End = MigrationResult | MigrationError;

export interface Outcome {
  readonly source: End;
  readonly destination: End;
  /** What became of an honest source that came when the attacked one had failed and the destination had let nobody in. */
  readonly next?: End;
  /** RAM at the destination is what the source has. */
  readonly arrived: boolean;
  /** The source's RAM is as it was. */
  readonly untouched: boolean;
  readonly conversations: readonly Conversation[];
  readonly notices: readonly string[];
}

/** An attacker who keeps a byte back costs as much; nothing that is honest takes so long. */
const PATIENCE_MS = 3_000;
const DEADLINE_MS = 60_000;
const LIMITS = {
  provider: 'iwarp',
  connectTimeoutMs: PATIENCE_MS,
  responseTimeoutMs: PATIENCE_MS,
  // A stream that is cut takes nothing with it but itself otherwise: test/campaign/links.
  resume: { windowMs: 0 },
  commitTimeoutMs: PATIENCE_MS,
} as const;

/** @throws Error: an end hangs */
export async function attack(
  vm: SecretVm,
  { source, destination }: Pick<Way, 'source' | 'destination'>,
  between: Between,
): Promise<Outcome> {
  await using target = new MemoryTarget();
  await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    ...LIMITS,
    ...destination,
  });
  const listening = new Listening(waiting);
  const received = outcome(waiting.receive());
  const notices: string[] = [];
  const send = (uri: string, options = {}): Promise<End> => {
    const sending = new MigrationSource(vm.source, uri, { ...LIMITS, ...source, ...options });
    sending.on('notice', (notice) => notices.push(`source: ${notice}`));
    return withDeadline(outcome(sending.migrate()), 'the source', DEADLINE_MS);
  };
  waiting.on('notice', (notice) => notices.push(`destination: ${notice}`));
  await using proxy = await TcpProxy.open(portOf(waiting.uri), between);
  const sent = await send(proxy.uri);
  const next = (await listening.isSo(received)) ? await send(waiting.uri, HONEST) : undefined;
  return {
    source: sent,
    destination: await withDeadline(received, 'the destination', DEADLINE_MS),
    ...(next && { next }),
    arrived: await vm.isIn(target.blocks),
    untouched: await vm.isIn(vm.source.blocks),
    conversations: proxy.conversations,
    notices,
  };
}

/** Has time. */
const HONEST = { connectTimeoutMs: 20_000, responseTimeoutMs: 20_000 };

/** Whether a destination still waits for a source. */
class Listening {
  #phase = 'listen';
  #over = false;
  #changed = (): void => {};

  constructor(destination: MigrationDestination) {
    destination.on('phase', (phase) => {
      this.#phase = phase;
      this.#changed();
    });
  }

  /** Once it is known: it waits, or it has ended. One that has let the source in ends. */
  async isSo(received: Promise<End>): Promise<boolean> {
    void received.then(() => {
      this.#over = true;
      this.#changed();
    });
    await new Promise((resolve) => setImmediate(resolve));
    while (!this.#over && this.#phase !== 'listen')
      await withDeadline(
        new Promise<void>((resolve) => {
          this.#changed = resolve;
        }),
        'the destination to end',
        DEADLINE_MS,
      );
    return !this.#over;
  }
}

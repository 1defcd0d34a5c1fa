/** The further queue pairs of a migration, as its destination lets them in: those of the source that was admitted, and nobody else's. */
import { MigrationError } from '../../errors.ts';
import { answerRail, type Rail } from '../../protocol/capabilities.ts';
import type { IncomingConnection } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';

/** What of an incoming connection is used here. */
export type IncomingRail = Pick<IncomingConnection, 'join' | 'peerAddress'>;

/** Whose rails are let in. */
interface Owner {
  readonly connection: Connection;
  readonly token: bigint;
  readonly channels: number;
  readonly taken: Set<number>;
  joined: number;
}

/**
 * Lets the rails of one source in, once each, from its admission until all are there or RAM moves. They are no strangers and take no
 * stranger's place, and they end with its connection.
 */
export class RailGate {
  #owner: Owner | undefined;
  #over: () => void = () => {};
  /** Resolves when no rail is let in any more: nobody has to listen from then on. */
  readonly over = new Promise<void>((resolve) => {
    this.#over = resolve;
  });

  /** From now on rails with this token are let in. */
  open(connection: Connection, token: bigint, channels: number): void {
    this.#owner = { connection, token, channels, taken: new Set(), joined: 1 };
  }

  /** What comes now comes too late; those that are on their way are let in. Idempotent. */
  close(): void {
    this.#owner = undefined;
    this.#over();
  }

  /**
   * Lets a rail in.
   * @throws MigrationError REJECTED: it may not be, and the migration is not touched; else why it could not be made
   */
  async admit(incoming: IncomingRail, rail: Rail): Promise<void> {
    const owner = this.#take(rail);
    await incoming.join(owner.connection, answerRail(rail), rail.index);
    owner.joined += 1;
    if (owner.joined === owner.channels) this.close();
  }

  #take({ token, index }: Rail): Owner {
    const owner = this.#owner;
    if (!owner || token !== (owner.connection.keys?.railToken(index) ?? owner.token))
      throw refusal('its token is that of no migration that has been let in');
    if (index < 1 || index >= owner.channels)
      throw refusal(
        `it asks to be channel ${index + 1}, and ${owner.channels} were granted, of which the first is there`,
      );
    if (owner.taken.has(index)) throw refusal(`channel ${index + 1} is there already`);
    owner.taken.add(index);
    return owner;
  }
}

const refusal = (why: string): MigrationError =>
  new MigrationError('REJECTED', 'negotiate', `a further channel was refused: ${why}`);

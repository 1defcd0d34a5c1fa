/** The further queue pairs of a migration, as its destination lets them in: each must show the token of a peer that was granted some. */
import { MigrationError } from '../../errors.ts';
import { answerRail, type Rail } from '../../protocol/capabilities.ts';
import type { IncomingConnection } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';

/** What of an incoming connection is used here. */
export type IncomingRail = Pick<IncomingConnection, 'join' | 'peerAddress'>;

/** A peer that was granted channels and has not said anything yet. */
export class RailOwner {
  readonly token: bigint;
  readonly channels: number;
  /** Rails may ask before the reply that named the token is known to have been sent. */
  readonly connection: Promise<Connection>;
  readonly taken = new Set<number>();
  #resolve: (connection: Connection) => void = () => {};
  #reject: (why: MigrationError) => void = () => {};

  constructor(token: bigint, channels: number) {
    this.token = token;
    this.channels = channels;
    this.connection = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.connection.catch(() => {}); // whoever waits for it is told
  }

  established(connection: Connection): void {
    this.#resolve(connection);
  }

  /** Without a connection it will have none; rails that wait for it are refused. No matter once there was one: they end with it. */
  gone(): void {
    this.#reject(refusal('the migration that it belongs to has failed'));
  }
}

/**
 * Matches rails to their owners. They are no strangers and take no stranger's place: an owner has as many as it was granted, and they end with
 * its connection.
 */
export class RailGate {
  readonly #owners = new Map<bigint, RailOwner>();

  /** From now on rails with this token are let in, until {@link close}. */
  open(token: bigint, channels: number): RailOwner {
    const owner = new RailOwner(token, channels);
    this.#owners.set(token, owner);
    return owner;
  }

  /** Its migration has begun, or failed: what comes now comes too late. Those that are on their way are let in. */
  close(owner: RailOwner): void {
    this.#owners.delete(owner.token);
  }

  /**
   * Lets a rail in.
   * @throws MigrationError REJECTED: it may not be, and its owner is not touched; else why it could not be made
   */
  async admit(incoming: IncomingRail, rail: Rail): Promise<void> {
    const owner = this.#take(rail);
    const connection = await owner.connection;
    await incoming.join(connection, answerRail(rail));
  }

  #take({ token, index }: Rail): RailOwner {
    const owner = this.#owners.get(token);
    if (owner === undefined) throw refusal('its token is that of no migration that is about to begin');
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

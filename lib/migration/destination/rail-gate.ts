/** The further queue pairs of migrations, as their destination lets them in: those of sources that were admitted, and nobody else's. */
import { MigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import type { Rail } from '../../protocol/extension.ts';
import { answerRail } from '../../protocol/rail-request.ts';
import type { IncomingConnection } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';

/** What of an incoming connection is used here. */
export type IncomingRail = Pick<IncomingConnection, 'join' | 'peerAddress'>;

/** What lets the rails of one source in. */
export interface RailPass {
  /** Resolves when no rail of this source is let in any more. */
  readonly over: Promise<void>;
  /** What comes now comes too late; those that are on their way are let in. Idempotent. */
  close(): void;
}

/** Whose rails are let in. */
interface Owner extends RailPass {
  readonly connection: Connection;
  readonly token: bigint;
  readonly channels: number;
  readonly taken: Set<number>;
  joined: number;
}

/**
 * Lets the rails of sources in, once each, from a source's admission until all of its own are there or its RAM moves. A rail finds its source by the
 * token, which was made for that one. They are no strangers and take no stranger's place, and they end with its connection.
 */
export class RailGate {
  readonly #owners = new Set<Owner>();

  /** From now on rails with the token of this source are let in; without one it has none. */
  open(connection: Connection, { token, channels }: Pick<Agreed, 'token' | 'channels'>): RailPass {
    if (token === undefined) return { over: Promise.resolve(), close: () => {} };
    const { promise: over, resolve } = withResolver();
    const owner: Owner = {
      connection,
      token,
      channels,
      taken: new Set(),
      joined: 1,
      over,
      close: () => {
        this.#owners.delete(owner);
        resolve();
      },
    };
    this.#owners.add(owner);
    return owner;
  }

  /** No rail of any source is let in any more. Idempotent. */
  close(): void {
    for (const owner of this.#owners) owner.close();
  }

  /**
   * Lets a rail in.
   * @throws MigrationError REJECTED: it may not be, and no migration is touched; else why it could not be made
   */
  async admit(incoming: IncomingRail, rail: Rail): Promise<void> {
    const owner = this.#take(rail);
    await incoming.join(owner.connection, answerRail(rail), rail.index);
    owner.joined += 1;
    if (owner.joined === owner.channels) owner.close();
  }

  #take(rail: Rail): Owner {
    const { index } = rail;
    const owner = [...this.#owners].find((one) => owns(one, rail));
    if (!owner) throw refusal('its token is that of no migration that has been let in');
    if (index < 1 || index >= owner.channels)
      throw refusal(
        `it asks to be channel ${index + 1}, and ${owner.channels} were granted, of which the first is there`,
      );
    if (owner.taken.has(index)) throw refusal(`channel ${index + 1} is there already`);
    owner.taken.add(index);
    return owner;
  }
}

/** Where a migration is protected, each rail has a token of its own, which nobody has seen on the wire. */
const owns = ({ connection, token }: Owner, rail: Rail): boolean =>
  !connection.ended.aborted && rail.token === (connection.keys?.railToken(rail.index) ?? token);

function withResolver(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

const refusal = (why: string): MigrationError =>
  new MigrationError('REJECTED', 'negotiate', `a further channel was refused: ${why}`);

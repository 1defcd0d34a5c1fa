/** The end of a migration at its destination: what has come is compared, made durable, and confirmed. */
import { MigrationError, toMigrationError } from '../../errors.ts';
import { type Commit, type CommitStatus, compareCommits, type SentDigest } from '../../protocol/commit.ts';
import type { Coverage } from '../../ram/coverage.ts';
import { digestRam } from '../../ram/digest.ts';
import type { Arrival, DestinationTarget, RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { DestinationTurns, TurnLimits } from '../../transport/turns.ts';
import { throwIfAborted, unlessAborted } from '../../transport/wait.ts';
import type { Journal } from '../journal.ts';
import { tellsWrites } from './arrivals.ts';
import { commitTarget } from './commit-target.ts';

export interface Handover {
  readonly connection: Connection;
  readonly turns: DestinationTurns;
  readonly target: DestinationTarget;
  readonly migrationId: string;
  readonly journal: Journal;
  readonly limits: TurnLimits;
  readonly commitTimeoutMs: number;
  readonly account: SentDigest;
  readonly blocks: readonly RamBlock[];
  readonly coverage: Coverage;
}

/**
 * Compares what the source says with what has come, and answers. True: the source has been told.
 * @throws MigrationError COMMIT_MISMATCH: the source has been told of that, or could not be (its cause); as {@link keep}
 */
export async function answerCommit(handover: Handover, sent: Commit): Promise<boolean> {
  const { turns, journal } = handover;
  const status = await compare(handover, sent);
  if (status !== 'OK') {
    try {
      await turns.answer({ type: 'COMMITTED', status });
    } catch (error) {
      // What went wrong first is the reason: a source that writes on breaks its link too.
      throw commitMismatch(status, error);
    }
    throw commitMismatch(status);
  }
  // Also for a source that has died meanwhile: this may be all that is left of the VM.
  await keep(handover, 'commit');
  // From here on the VM is ours, whether the source hears of it or not.
  try {
    await turns.answerAnyway({ type: 'COMMITTED', status });
    return true;
  } catch (error) {
    const why = toMigrationError(error, 'commit').message;
    const message = `the VM is complete here, but the source could not be told: ${why}`;
    journal.notice('SOURCE_NOT_TOLD', message);
    return false;
  }
}

/**
 * Makes the VM durable.
 * @throws MigrationError as {@link commitTarget}
 */
export async function keep(handover: Handover, completeness: Arrival['completeness']): Promise<void> {
  const { connection, target, migrationId, limits, commitTimeoutMs } = handover;
  const { peerAddress: peer, provider } = connection.info;
  throwIfAborted(limits.signal, 'commit');
  const { state } = handover.coverage;
  const arrival = {
    migrationId,
    peer,
    provider,
    completeness,
    ...(state !== 'whole' && { coverage: state }),
  };
  await commitTarget(target, arrival, commitTimeoutMs, limits.signal);
}

async function compare(handover: Handover, sent: Commit): Promise<CommitStatus> {
  const { connection, limits, account, blocks } = handover;
  // Where WRITEs are not seen the source's own count has to do.
  const placed = tellsWrites(connection) ? connection.stats().writeBytesPlaced : sent.ramBytes;
  const ramDigest = sent.ramDigest
    ? await unlessAborted(digestRam(blocks), limits.signal, 'commit')
    : undefined;
  return compareCommits(sent, account.commit(placed, ramDigest));
}

function commitMismatch(status: CommitStatus, cause?: unknown): MigrationError {
  return new MigrationError(
    'COMMIT_MISMATCH',
    'commit',
    `what arrived is not what the source says it sent (${status}): nothing is kept here, and the source's VM may go on`,
    { details: { status }, cause },
  );
}

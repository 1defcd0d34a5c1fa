import { MigrationError, type QueuePair } from '../../verbs/index.ts';

/**
 * Posts upon completions. The peer may end the queue pair between any two calls: then a post throws, and `closed` tells why. Anything else that
 * is thrown ends it.
 */
export function unlessEnded(queuePair: QueuePair, post: () => void): void {
  try {
    post();
  } catch (error) {
    if (!(error instanceof MigrationError) || error.code !== 'CONNECTION_CLOSED') void queuePair.close();
  }
}

/** A queue pair whose peer has ended it in good order, but before a round was over. */
export function leftInARound(): MigrationError {
  return new MigrationError(
    'CONNECTION_CLOSED',
    'verbs',
    'the other end of the benchmark left in the middle of a round: see what it says there',
  );
}

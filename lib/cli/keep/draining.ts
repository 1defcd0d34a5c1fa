import type { StopSignal } from '../exit-codes.ts';
import type { KeepOptions } from './program.ts';

/** What a service says when it is told to end. */
export const draining =
  ({ onTerm = 'finish', drainTimeout }: KeepOptions) =>
  (name: StopSignal): string => {
    const limit = drainTimeout === undefined ? '' : ` within ${drainTimeout / 1000} s`;
    const what =
      onTerm === 'cancel' ? 'what is under way is cancelled' : `what is under way may finish${limit}`;
    return `${name}: no new VM is taken, and ${what}; ${name === 'SIGHUP' ? 'SIGTERM' : 'once more'} ends at once`;
  };

/**
 * The one way into code of the embedder: targets, VMs, guests, trackers, listeners. It may throw where a promise was due, or give a plain
 * value or nothing. What it does is its outcome, and never ours.
 */

/** Calls into the embedder's code. Whatever it does ends up in the promise: this never throws. */
export async function call<T>(work: () => T | PromiseLike<T>): Promise<T> {
  return work();
}

/** Calls a listener, whose outcome nobody waits for. `failed` hears what it threw, at once or later. Never throws. */
export function tell(listener: () => unknown, failed: (error: unknown) => void): void {
  call(listener).catch(failed);
}

/**
 * The promise's outcome, or the error of `cancelled` as soon as the signal aborts. The promise itself is not stopped; if it fails later
 * that is not an unhandled rejection. Its maker ends it. No listener is left on the signal afterwards.
 * @throws what the promise is rejected with, or the error
 */
export async function raceAbort<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  cancelled: () => Error,
): Promise<T> {
  promise.catch(() => {}); // the loser of the race has no listener left
  if (!signal) return promise;
  if (signal.aborted) throw cancelled();
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled());
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

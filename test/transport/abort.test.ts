import { getEventListeners } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { raceAbort } from '../../lib/abort.ts';
import { MigrationError } from '../../lib/errors.ts';
import { untilAborted } from '../../lib/image/stream-input.ts';
import { waitFor } from '../../lib/qmp/wait.ts';
import { unlessAborted } from '../../lib/transport/wait.ts';

const never = new Promise<never>(() => {});
const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

/** The three waits that race with a signal, each as a wait for this promise. */
const waits = [
  ['unlessAborted', 'ram', (work, signal) => unlessAborted(work, signal, 'ram')],
  ['untilAborted', 'image', (work, signal) => untilAborted(work, signal, 'reading')],
  [
    'waitFor',
    'setup',
    (work, signal) =>
      waitFor({ phase: 'setup', what: 'stop', timeoutMs: 60_000, signal }, (resolve, reject) => {
        work.then(resolve, reject);
      }),
  ],
] as const satisfies readonly (readonly [
  string,
  string,
  (work: Promise<string>, signal: AbortSignal) => Promise<string>,
])[];

describe.each(waits)('%s', (_name, phase, wait) => {
  const cancelled = expect.objectContaining({ code: 'CANCELLED', phase, cause: 'enough' });

  it('gives what the promise gives, and leaves no listener', async () => {
    const { signal } = new AbortController();
    expect(await wait(Promise.resolve('done'), signal)).toBe('done');
    const failure = new MigrationError('PEER_ERROR', 'ram', 'no');
    await expect(wait(Promise.reject(failure), signal)).rejects.toBe(failure);
    expect(listeners(signal)).toBe(0);
  });

  it('ends with CANCELLED as soon as the signal aborts, and before it begins', async () => {
    const controller = new AbortController();
    const waiting = wait(never, controller.signal);
    expect(listeners(controller.signal)).toBe(1);
    controller.abort('enough');
    await expect(waiting).rejects.toEqual(cancelled);
    expect(listeners(controller.signal)).toBe(0);
    await expect(wait(Promise.resolve('done'), controller.signal)).rejects.toEqual(cancelled);
  });
});

it.each([true, false])(
  'a promise that fails later is nobody’s unhandled rejection (aborted before: %s)',
  async (before) => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const controller = new AbortController();
    const { promise, reject } = withResolvers();
    if (before) controller.abort();
    const waiting = raceAbort(promise, controller.signal, () => new Error('cancelled'));
    controller.abort();
    await expect(waiting).rejects.toThrow('cancelled');
    reject(new Error('late'));
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  },
);

it('a QMP command is not sent when the signal has aborted before', async () => {
  const send = vi.fn();
  const subject = { phase: 'setup', what: 'stop', timeoutMs: 1000, signal: AbortSignal.abort() } as const;
  await expect(waitFor(subject, send)).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(send).not.toHaveBeenCalled();
});

function withResolvers(): { promise: Promise<never>; reject: (reason: Error) => void } {
  let reject = (_reason: Error): void => {};
  const promise = new Promise<never>((_, refuse) => {
    reject = refuse;
  });
  return { promise, reject };
}

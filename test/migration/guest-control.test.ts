import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Guest } from '../../lib/index.ts';
import { GuestControl } from '../../lib/migration/live/guest-control.ts';

const TIMEOUT_MS = 100;
const never = (): Promise<void> => new Promise(() => {});

/** A VMM that writes down what has taken hold, when it has. */
class Vmm implements Guest {
  readonly log: string[] = [];
  readonly #slow: { pause?: () => Promise<void>; throttle?: (percentage: number) => Promise<void> };
  readonly tracker: Guest['tracker'] = {
    kind: 'bitmap',
    start: async () => {},
    collect: async () => 0n,
    stop: async () => void this.log.push('not watched'),
    [Symbol.asyncDispose]: async () => {},
  };

  constructor(slow: { pause?: () => Promise<void>; throttle?: (percentage: number) => Promise<void> } = {}) {
    this.#slow = slow;
  }

  async pause(): Promise<void> {
    await this.#slow.pause?.();
    this.log.push('paused');
  }

  async resume(): Promise<void> {
    this.log.push('resumed');
  }

  async throttle(percentage: number): Promise<void> {
    await this.#slow.throttle?.(percentage);
    this.log.push(`throttled ${percentage}`);
  }
}

describe('giving a guest back', () => {
  it('a throttle that is under way does not outlive the one that ends it', async () => {
    const vmm = new Vmm({ throttle: (percentage) => delay(percentage) });
    const cancel = new AbortController();
    const control = new GuestControl(vmm, { timeoutMs: 10_000, signal: cancel.signal });
    const throttling = control.throttle(20);
    cancel.abort();
    await expect(throttling).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await control.giveBack('ram')).toBeUndefined();
    await delay(100);
    expect(vmm.log).toEqual(['throttled 20', 'throttled 0']);
  });

  it('says that a throttle has not ended, and ends the throttling all the same', async () => {
    const vmm = new Vmm({ throttle: (percentage) => (percentage > 0 ? never() : delay(0)) });
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS });
    await expect(control.throttle(20)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await control.giveBack('ram')).toMatchObject({
      code: 'GUEST_ERROR',
      message: expect.stringContaining('told to throttle the guest, has not answered'),
    });
    expect(vmm.log).toEqual(['throttled 0']);
  });

  it('says that a pause has not ended, and resumes all the same', async () => {
    const vmm = new Vmm({ pause: never });
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS });
    await expect(control.pause()).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await control.giveBack('ram')).toMatchObject({
      code: 'GUEST_ERROR',
      message: expect.stringContaining('told to pause the guest, has not answered'),
    });
    expect(vmm.log).toEqual(['resumed']);
  });

  it('has nothing to say of a pause that ends after its deadline, but before the resume', async () => {
    const vmm = new Vmm({ pause: () => delay(TIMEOUT_MS * 1.5) });
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS });
    await expect(control.pause()).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await control.giveBack('ram')).toBeUndefined();
    expect(vmm.log).toEqual(['paused', 'resumed']);
  });
});

describe('a migration that has ended', () => {
  it('asks the VMM for nothing more, and so has nothing to give back', async () => {
    const vmm = new Vmm();
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS, signal: AbortSignal.abort() });
    await expect(control.pause()).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(control.throttle(20)).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await control.giveBack('ram')).toBeUndefined();
    expect(vmm.log).toEqual([]);
  });
});

describe('leaving a guest to the destination', () => {
  it('ends the throttling and the watch, and does not let it run', async () => {
    const vmm = new Vmm();
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS });
    await control.track();
    await control.throttle(20);
    await control.pause();
    await control.leave();
    expect(vmm.log).toEqual(['throttled 20', 'paused', 'throttled 0', 'not watched']);
  });

  it('ends the watch where the throttling cannot be ended', async () => {
    const vmm = new Vmm({ throttle: (percentage) => (percentage > 0 ? delay(0) : never()) });
    const control = new GuestControl(vmm, { timeoutMs: TIMEOUT_MS });
    await control.track();
    await control.throttle(20);
    await control.leave();
    expect(vmm.log).toEqual(['throttled 20', 'not watched']);
  });
});

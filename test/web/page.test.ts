/** The page in a real browser, while a guest really moves. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MigrationResult, SourceOptions } from '../../lib/index.ts';
import { MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { cancelled, WebServer } from '../../lib/web/index.ts';
import { openBrowser, picture } from '../support/browser.ts';
import { failure } from '../support/live-attempt.ts';
import { LiveGuest, MemoryTarget } from '../support/live-guest.ts';
import { painted } from '../support/painted.ts';

let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

interface Shown {
  readonly server: WebServer;
  readonly page: Page;
  readonly context: BrowserContext;
  readonly vm: LiveGuest;
  readonly source: MigrationSource;
  readonly sent: Promise<MigrationResult>;
  /** What a viewer has done, in words. */
  readonly done: readonly string[];
}

/** A guest that moves slowly, and the page that shows it. */
async function shown(
  options: SourceOptions,
  work: (shown: Shown) => Promise<void>,
  end: 'source' | 'destination' = 'source',
): Promise<void> {
  await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
  await using target = new MemoryTarget();
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
  });
  const done: string[] = [];
  await using server = await WebServer.listen(
    { host: '127.0.0.1', port: 0 },
    { onAction: (what) => done.push(what) },
  );
  const source = new MigrationSource(vm, destination.uri, { provider: 'iwarp', ...options });
  const controller = new AbortController();
  const migration = end === 'source' ? source : destination;
  server.show(migration, 'a guest', () => controller.abort(cancelled(migration)));
  const context = await browser.newContext();
  const received = destination.receive();
  const sent = source.migrate({ signal: controller.signal });
  for (const promise of [received, sent]) promise.catch(() => {});
  try {
    const page = await context.newPage();
    const wrong: string[] = [];
    page.on('pageerror', (error) => wrong.push(error.message));
    page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
    await page.goto(server.url);
    await work({ server, page, context, vm, source, sent, done });
    // What the policy of the page forbids is said there too.
    expect(wrong.filter((text) => !text.includes('WebSocket') && !text.includes('ERR_'))).toEqual([]);
  } finally {
    await destination.close();
    await Promise.allSettled([sent, received]);
    await context.close();
  }
}

/** A way to the server that can be cut, and is there again at once. */
async function breakable(target: number) {
  const sockets = new Set<Socket>();
  const proxy = createServer((from) => {
    const to = connect(target, '127.0.0.1');
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (proxy.address() as AddressInfo).port,
    cut,
    [Symbol.asyncDispose]: async () => {
      proxy.close();
      cut();
    },
  };
}

const field = (page: Page, name: string) =>
  page.locator(`.figures > div:has(dt:text-is("${name}")) dd`).first();

describe('the page', () => {
  it('shows a guest that moves, lets it be stopped and copied, and then the result', async () => {
    await shown({ maxBandwidth: 8n << 20n }, async ({ page, source, sent, done }) => {
      await page.locator('[data-status=active]').waitFor();
      expect(await page.locator('[aria-current=step]').textContent()).toBe('ram');
      expect(await page.locator('.facts').textContent()).toContain(source.migrationId);
      await page.locator('.rounds li').first().waitFor();
      expect(await field(page, 'rate').textContent()).toMatch(/[KM]iB\/s/);
      await expect.poll(() => page.locator('canvas').count()).toBeGreaterThanOrEqual(2);
      expect(new URL(page.url()).hash).toBe('');
      // Gone over once, and the guest writes on: what it wrote is to be sent again, the rest has been sent.
      const both = async (): Promise<boolean> => {
        const { dirty = 0, done: sentShare = 0 } = await painted(page);
        return dirty > 0.001 && sentShare > 0.001;
      };
      await expect.poll(both).toBe(true);
      await picture(page, 'rounds');
      await page.getByRole('button', { name: 'stop the guest' }).click();
      const result = await sent;
      await page.locator('[data-status=completed]').waitFor();
      expect(await page.locator('.outcome').textContent()).toContain('must not run at the source again');
      expect(await page.locator('.bar').getAttribute('aria-valuenow')).toBe('100');
      expect(result.outcome).toBe('committed');
      const left = async (): Promise<readonly number[]> => {
        const { dirty = 0, waiting = 0, flying = 0 } = await painted(page);
        return [dirty, waiting, flying];
      };
      await expect.poll(left).toEqual([0, 0, 0]);
      const { done: sentShare = 0, zero = 0 } = await painted(page);
      expect(sentShare + zero).toBeCloseTo(1);
      await picture(page, 'completed');
      expect(done).toEqual(['the guest is stopped now, and the rest sent']);
    });
  });

  it('takes a bandwidth, and cancels by the second click', async () => {
    await shown({ maxBandwidth: 1n << 20n }, async ({ page, vm, sent, done }) => {
      await page.locator('[data-status=active]').waitFor();
      expect(await page.locator('.outcome').isVisible()).toBe(false);
      await page.getByLabel('max-bandwidth').fill('2');
      await page.keyboard.press('Enter');
      await page.getByText('max-bandwidth is 2097152').waitFor();
      await picture(page, 'first-pass');
      await page.getByRole('button', { name: 'cancel' }).click();
      await page.getByRole('button', { name: 'really' }).click();
      const error = await failure(sent);
      expect([error.code, vm.isRunning]).toEqual(['CANCELLED', true]);
      await page.locator('[data-status=cancelled]').waitFor();
      await page.getByRole('button', { name: 'stop the guest' }).waitFor({ state: 'hidden' });
      expect(await page.locator('.facts').textContent()).toContain('the VM is the source’s');
      expect(done.at(-1)).toBe('cancelling');
      await picture(page, 'cancelled');
    });
  });

  it('shows a destination what has come', async () => {
    await shown(
      { maxBandwidth: 1n << 20n },
      async ({ page, source, sent }) => {
        await page.locator('[data-status=active]').waitFor();
        const part = async (): Promise<boolean> => {
          const { done = 0, waiting = 0 } = await painted(page);
          return done > 0.2 && waiting > 0.05;
        };
        await expect.poll(part).toBe(true);
        await picture(page, 'destination');
        source.setMaxBandwidth(0n);
        source.stopAndCopy();
        await sent;
        await page.locator('[data-status=completed]').waitFor();
        await expect.poll(async () => await painted(page)).toEqual({ done: 1 });
      },
      'destination',
    );
  });

  it('comes back after the connection was lost, with all of the curves', async () => {
    await shown({ maxBandwidth: 1n << 20n }, async ({ server, page }) => {
      await using way = await breakable(server.port);
      await page.goto(server.url.replace(`:${server.port}/`, `:${way.port}/`));
      await page.locator('[data-status=active]').waitFor();
      await page.waitForTimeout(1_000);
      way.cut();
      await page.getByText('trying again').waitFor();
      await page.getByText('live', { exact: true }).waitFor();
      await page.locator('[data-status=active]').waitFor();
    });
  });

  it('says that the token is missing', async () => {
    await shown({ maxBandwidth: 1n << 20n }, async ({ server }) => {
      await using context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`${server.origin}/#wrong`);
      await page.getByText('it ends with the token').waitFor();
      expect(await page.locator('article').count()).toBe(0);
    });
  });
});

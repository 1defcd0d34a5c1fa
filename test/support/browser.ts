/** Debian's chromium, without a window. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';

/** @throws Error that says what to install */
export async function openBrowser(): Promise<Browser> {
  if (!existsSync(EXECUTABLE)) throw new Error('these tests need a browser: apt-get install chromium');
  // As root, which CI is, chromium runs only without its sandbox; what it opens here is our own page.
  return chromium.launch({ executablePath: EXECUTABLE, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

const LOOKS = [
  { look: 'desktop', width: 960, height: 800, colorScheme: 'light' },
  { look: 'phone', width: 390, height: 844, colorScheme: 'dark' },
] as const;

/** With PICTURES=FOLDER in the environment: the page as it looks at this moment, on a desk and on a phone. */
export async function picture(page: Page, moment: string): Promise<void> {
  const folder = process.env.PICTURES;
  if (folder === undefined) return;
  for (const { look, colorScheme, ...viewport } of LOOKS) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.locator('#answer').evaluate((answer) => answer.replaceChildren());
    await page.waitForTimeout(300);
    await page.screenshot({ path: join(folder, `page-${moment}-${look}.png`), fullPage: true });
  }
}

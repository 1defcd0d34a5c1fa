/** What `rdma-migrate doctor` says in the VM. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { z } from 'zod';
import { CHECKOUT } from '../checkout.ts';

const check = z.object({
  name: z.string(),
  status: z.enum(['ok', 'warning', 'missing']),
  found: z.string(),
  remedy: z.string().optional(),
  notes: z.array(z.string()).optional(),
  details: z.record(z.string(), z.unknown()),
});
const report = z.object({ ready: z.boolean(), checks: z.array(check) });
export type Check = z.infer<typeof check>;

export interface Report {
  readonly ready: boolean;
  /** @throws when there is no such check */
  check(name: string): Check;
}

export async function doctor(): Promise<Report> {
  const args = [join(CHECKOUT, 'dist/cli/main.js'), 'doctor', '--json'];
  // It exits with 7 if something essential is missing, and says so in the report.
  const stdout = await new Promise<string>((resolve) =>
    execFile(process.execPath, args, (_error, text) => resolve(text)),
  );
  const { ready, checks } = report.parse(JSON.parse(stdout));
  return {
    ready,
    check(name) {
      const found = checks.find((each) => each.name === name);
      if (found === undefined) throw new Error(`doctor has no check ${name}: ${stdout}`);
      return found;
    },
  };
}

/** @throws unless the text has all of `wanted` */
export function expectText(text: string | undefined, ...wanted: readonly (string | RegExp)[]): string {
  for (const each of wanted) {
    const there = typeof each === 'string' ? text?.includes(each) : each.test(text ?? '');
    if (!there) throw new Error(`expected ${each} in: ${text}`);
  }
  return text as string;
}

/** What it says about the device, which must have proved itself. */
export function expectProven({ ready, check: find }: Report): string {
  const { status, found, notes = [] } = find('rdma-device');
  if (!ready || find('provider-verbs').status !== 'ok' || status !== 'ok')
    throw new Error(`the device is ${status}: ${found}`);
  expectText(notes.join('\n'), 'ACTIVE', 'GIDs: [0]', 'limits: ');
  return found;
}

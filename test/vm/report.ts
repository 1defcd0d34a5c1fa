/** Cases that run in the VM, one after the other, with one line each in the log. */
import type { Device } from './arguments.ts';

export interface NamedCase<Context> {
  /** Such as `siw: QEMU → QEMU, pin-all on`. */
  readonly name: string;
  /** What it shows is the same on every device, so it runs on this one alone; `every`: only with --every. */
  readonly on?: Device | 'every';
  /** Runs to its end and returns a line of figures; a failure is thrown. */
  readonly run: (context: Context) => Promise<string>;
}

/** Those that run on a device, `every`: all of them. */
export const casesOn = <One extends Pick<NamedCase<never>, 'on'>>(
  device: Device,
  every: boolean,
  cases: readonly One[],
): One[] => cases.filter(({ on }) => every || on === undefined || on === device);

const CASE_TIMEOUT_MS = 480_000;

async function withDeadline(work: Promise<string>): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${CASE_TIMEOUT_MS / 1000} s`)), CASE_TIMEOUT_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function runCase<Context>({ name, run }: NamedCase<Context>, context: Context): Promise<boolean> {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  try {
    const figures = await withDeadline(run(context));
    console.log(`ok      ${name} (${seconds()}): ${figures}`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${name} (${seconds()}): ${error instanceof Error ? error.stack : error}`);
    return false;
  }
}

/** @returns the exit code: 0 when all passed and there were some */
export async function runCases<Context>(
  title: string,
  cases: readonly NamedCase<Context>[],
  context: Context,
): Promise<number> {
  let failed = 0;
  for (const one of cases) if (!(await runCase(one, context))) failed++;
  console.log(`${title}: ${cases.length - failed} of ${cases.length} passed`);
  return failed === 0 && cases.length > 0 ? 0 : 1;
}

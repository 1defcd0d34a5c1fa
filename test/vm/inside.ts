/** Runs in the VM: `inside.js SETTINGS`, as JSON: suites of test:vm, one after the other. Ends with 1 when one fails. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CHECKOUT } from './checkout.ts';
import { removeDevice, renewDevice } from './device/link.ts';
import { interopCommand } from './interop/run.ts';
import { describeStuck, untilIdStuck } from './stuck.ts';
import { exitCodeOf, FABRIC_BUILD, type Outcome, type Suite, type SuitesSettings } from './suites.ts';

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all'];
/** Debian's default, which the tests expect: for processes of a user who may not raise it. */
const LITTLE_LOCKABLE = ['prlimit', '--memlock=8388608:8388608'];
const PROVIDER = 'RDMA_MIGRATE_PROVIDER=verbs';

const TITLES = {
  fabric: 'fabric suite, provider verbs',
  limits: 'rdma-migrate with 8 MiB of lockable memory',
  device: 'rdma-migrate at both ends',
  trust: 'protected migrations',
  interop: 'interop with stock QEMU',
  without: 'a machine without rdma-core',
} as const;

function command(suite: Suite, { every, interop }: SuitesSettings): string[] {
  const own = [
    'node',
    relative(CHECKOUT, fileURLToPath(new URL('device/inside.js', import.meta.url))),
    suite,
    ...(every ? ['every'] : []),
  ];
  if (suite === 'fabric') {
    const tests = [
      '--test-dir',
      FABRIC_BUILD,
      '-R',
      '^(fabric|verbs)',
      '--verbose',
      '--no-tests=error',
      '-j',
      '3',
    ];
    return ['env', PROVIDER, 'ctest', ...tests];
  }
  if (suite === 'limits') return [...LITTLE_LOCKABLE, ...NOBODY, 'env', 'HOME=/tmp', ...own];
  return suite === 'interop' ? interopCommand(interop) : own;
}

async function exitCode([program = '', ...args]: readonly string[]): Promise<number> {
  const child = spawn(program, args, { cwd: CHECKOUT, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? 1;
}

/** Several times what the longest suite takes. */
const SUITE_TIMEOUT_MS = 15 * 60_000;

async function outcome(suite: Suite, settings: SuitesSettings): Promise<Outcome> {
  const over = new AbortController();
  const { signal } = over;
  const ended = runSuite(suite, settings).then((passed) => (passed ? 'passed' : 'failed'));
  const late = setTimeout(SUITE_TIMEOUT_MS, 'late' as const, { signal });
  try {
    return await Promise.race([ended, late, untilIdStuck(signal)]);
  } catch (error) {
    console.log(`${suite} could not be run: ${error instanceof Error ? error.stack : error}`);
    return 'failed';
  } finally {
    over.abort();
  }
}

/** Each suite runs in its own process: what ends one does not end another. */
async function runSuite(suite: Suite, settings: SuitesSettings): Promise<boolean> {
  console.log(`=== ${settings.device}: ${TITLES[suite]}`);
  await (suite === 'without' ? removeDevice(settings.device) : renewDevice(settings.device));
  return (await exitCode(command(suite, settings))) === 0;
}

async function main(settings: SuitesSettings): Promise<number> {
  const said: string[] = [];
  const outcomes: Outcome[] = [];
  for (const suite of settings.suites) {
    const started = performance.now();
    const how = await outcome(suite, settings);
    outcomes.push(how);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const word = how === 'passed' ? how : how.toUpperCase();
    said.push(`${word}: ${TITLES[suite]}, on ${settings.device}, ${seconds} s`);
    if (how === 'passed' || how === 'failed') continue;
    // What has not ended holds the device: the suites that follow are not run.
    console.log(describeStuck());
    break;
  }
  for (const line of said) console.log(line);
  return exitCodeOf(outcomes);
}

process.exit(await main(JSON.parse(process.argv[2] ?? '{}') as SuitesSettings));

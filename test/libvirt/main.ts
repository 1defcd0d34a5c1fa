/** `npm run test:libvirt [-- --migrations N]`: see the README. */
import { rmSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildGuest } from '../../examples/guest/build.ts';
import { Guest, REGION_BYTES } from './guest.ts';
import { Host, type HostFacts } from './host.ts';
import { whatIsMissing } from './needs.ts';
import { PRIVILEGED_SCENES, SCENES, type Scene } from './scenes.ts';

const USAGE = 64;
/** As for the tests in a VM: this machine cannot do it. */
const UNAVAILABLE = 69;
const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

const A: HostFacts = { name: 'a', uuid: '6d0d2b53-3f0c-4f7e-9d33-2b7c7f6b1a01', address: '10.0.0.1' };
const B: HostFacts = { name: 'b', uuid: '6d0d2b53-3f0c-4f7e-9d33-2b7c7f6b1a02', address: '10.0.0.2' };

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Its folder, which goes with this process. What runs in it goes too: see host.sh. */
async function workFolder(): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'rdma-migrate-libvirt-'));
  process.once('exit', () => rmSync(work, { recursive: true, force: true }));
  for (const [name, number] of Object.entries(SIGNALS)) process.once(name, () => process.exit(128 + number));
  // QEMU reads the guest in it, and is not root.
  await chmod(work, 0o755);
  return work;
}

interface Plan {
  readonly work: string;
  readonly kernel: string;
  readonly migrations: number;
}

/** With new hosts and a new guest. @throws Error the first scene that fails, after the logs of both hosts */
async function play(scenes: Readonly<Record<string, Scene>>, plan: Plan, privileged: boolean): Promise<void> {
  const { work, kernel, migrations } = plan;
  const [a, b] = await Host.pair(
    [
      { ...A, privileged },
      { ...B, privileged },
    ],
    work,
  );
  await using _a = a;
  await using _b = b;
  const guest = await Guest.start(a, kernel, work);
  for (const [name, scene] of Object.entries(scenes)) {
    const began = performance.now();
    const hear = (text: string): void => say(`     ${text.replaceAll('\n', '\n     ')}`);
    try {
      await scene({ a, b, guest, work, migrations, say: hear });
    } catch (error) {
      for (const host of [a, b]) say(await host.logs());
      throw new Error(name, { cause: error });
    }
    say(`ok ${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${name}`);
  }
}

async function main(migrations: number): Promise<void> {
  const work = await workFolder();
  const kernel = join(work, 'kernel');
  await buildGuest({ output: kernel, regionBytes: REGION_BYTES });
  const plan = { work, kernel, migrations };
  await play(SCENES, plan, false);
  await play(PRIVILEGED_SCENES, plan, true);
  say(`${Object.keys(SCENES).length + Object.keys(PRIVILEGED_SCENES).length} passed, 0 failed`);
}

const { values } = parseArgs({ options: { migrations: { type: 'string', default: '10' } } });
const migrations = Number(values.migrations);
const missing = await whatIsMissing();
if (!Number.isSafeInteger(migrations) || migrations < 1) {
  say(`--migrations must be a whole number of at least 1 but is ${values.migrations}`);
  process.exitCode = USAGE;
} else if (missing !== undefined) {
  say(`NOT RUN: ${missing}`);
  process.exitCode = UNAVAILABLE;
} else await main(migrations);

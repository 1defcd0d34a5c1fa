/**
 * `npm run campaign:service -- --vms N [--at-once M] [--mib SIZE]`: one `receive --keep` takes N small VMs one after another, and then M at once. Every image
 * is compared with what was sent, and what the service holds is shown: a service that keeps descriptors, threads or memory of VMs that have gone
 * ends this with 1.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cost, costOf } from '../../../bench/support/cost.ts';
import { Service } from './service.ts';
import { sendNew } from './vm.ts';

/** What is free in Node's heap and in malloc's arenas has not all gone back to the system. */
const BREATH_MIB = 12;
/** What has ended is closed shortly after its source has been told. */
const SETTLE_MS = 6_000;

const wholeNumber = (text: string | undefined, least: number): number => {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  throw new Error(`expected a whole number of at least ${least} but received ${text}`);
};

const { values } = parseArgs({
  options: {
    vms: { type: 'string', default: '100' },
    'at-once': { type: 'string', default: '16' },
    mib: { type: 'string', default: '1' },
  },
});
const vms = wholeNumber(values.vms, 0);
const atOnce = wholeNumber(values['at-once'], 0);
const bytes = BigInt(wholeNumber(values.mib, 1)) << 20n;

const said = (what: string, { descriptors, threads, privateMiB }: Cost): void => {
  process.stdout.write(
    `${what.padEnd(24)} ${String(descriptors).padStart(4)} descriptors ${String(threads).padStart(3)} threads ${privateMiB.toFixed(1).padStart(7)} MiB\n`,
  );
};

const settled = async (service: Service): Promise<Cost> => {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  await service.collectGarbage();
  return costOf(service.pid);
};

/** What it holds at rest after half of them, and after all. */
async function inARow(service: Service, work: string): Promise<readonly [Cost, Cost]> {
  said('at the start', await costOf(service.pid));
  let half: Cost | undefined;
  for (let count = 1; count <= vms; count++) {
    await sendNew(service, work, bytes);
    if (count % 50 === 0) said(`after ${count}`, await costOf(service.pid));
    if (count !== Math.ceil(vms / 2)) continue;
    half = await settled(service);
    said(`after ${count}, at rest`, half);
  }
  const all = await settled(service);
  said(`after all ${vms}, at rest`, all);
  return [half ?? all, all];
}

/** What the service holds at rest afterwards. */
async function together(service: Service, work: string): Promise<Cost> {
  const began = performance.now();
  await Promise.all(Array.from({ length: atOnce }, () => sendNew(service, work, bytes)));
  const seconds = (performance.now() - began) / 1000;
  said(`${atOnce} at once, ${seconds.toFixed(1)} s`, await costOf(service.pid));
  const rest = await settled(service);
  said('at rest', rest);
  return rest;
}

function growth(before: Cost, after: Cost): string[] {
  return [
    ...(after.descriptors > before.descriptors
      ? [`descriptors: ${before.descriptors}, ${after.descriptors}`]
      : []),
    ...(after.threads > before.threads ? [`threads: ${before.threads}, ${after.threads}`] : []),
    ...(after.privateMiB > before.privateMiB + BREATH_MIB
      ? [`MiB: ${before.privateMiB.toFixed(1)}, ${after.privateMiB.toFixed(1)}`]
      : []),
  ];
}

async function main(): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'rdma-migrate-service-'));
  try {
    await using service = await Service.start(join(work, 'kept'), Math.max(1, atOnce));
    const grown = vms > 0 ? growth(...(await inARow(service, work))) : [];
    if (atOnce > 0) {
      // What many at once leave behind they do not leave twice.
      const first = await together(service, work);
      grown.push(...growth(first, await together(service, work)).map((what) => `many at once: ${what}`));
    }
    const left = await readdir(service.folder);
    if (left.length > 0)
      throw new Error(`${left.length} things are left in the folder: ${left.slice(0, 3).join(', ')}`);
    const code = await service.stop();
    if (code !== 0) throw new Error(`the service ended with ${code}`);
    if (grown.length > 0) throw new Error(`the service has grown: ${grown.join('; ')}`);
    process.stdout.write(
      `${vms} in a row and twice ${atOnce} at once arrived as they were sent, of which ${service.refused} times one had to come again; nothing has grown\n`,
    );
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

await main();

/** A machine without rdma-core: its libraries are removed, only in the VM's memory. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CHECKOUT } from '../checkout.ts';
import { RdmaMigrate } from '../interop/command.ts';
import { expectOk, expectTypedError } from '../interop/scene.ts';
import type { NamedCase } from '../report.ts';
import { doctor, expectText } from './doctor.ts';
import { expectSame, MIB, Pair, run, type Stage, sourceImage } from './pair.ts';

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';
const RELEASE = join(CHECKOUT, 'build/Release');
const RDMA_CORE = /librdmacm|libibverbs/;

async function removeRdmaCore(): Promise<string> {
  const names = (await readdir(LIBRARIES)).filter((name) => RDMA_CORE.test(name));
  if (names.length === 0) throw new Error(`rdma-core is not installed in ${LIBRARIES}: nothing to remove`);
  for (const name of names) await rm(join(LIBRARIES, name), { recursive: true });
  return names.filter((name) => name.includes('.so')).join(', ');
}

async function needs(): Promise<string> {
  const [addon, plugin] = await Promise.all(
    ['rdma_migrate.node', 'rdma_migrate_verbs.so'].map((name) => run('ldd', join(RELEASE, name))),
  );
  if (RDMA_CORE.test(addon ?? '')) throw new Error(`the addon needs rdma-core: ${addon}`);
  expectText(plugin, /librdmacm\S+ => not found/, /libibverbs\S+ => not found/);
  return 'ldd names no library of rdma-core for the addon, and misses them for the verbs provider';
}

const advised =
  (wanted: { found: string; remedy: string }): NamedCase<Stage>['run'] =>
  async () => {
    const { ready, check } = await doctor();
    const { status, found, remedy } = check('provider-verbs');
    if (!ready || status !== 'missing') throw new Error(`ready is ${ready}, verbs is ${status}`);
    return `${expectText(found, wanted.found)}; ${expectText(remedy, wanted.remedy)}; ${check('self-test').found}`;
  };

async function viaSoftware(stage: Stage): Promise<string> {
  const image = await sourceImage(stage, 16n * MIB);
  await using pair = await Pair.start(stage, { image, host: '127.0.0.1', provider: 'auto' });
  const outcomes = await pair.outcomes();
  for (const outcome of outcomes) expectOk(outcome);
  await expectSame(image, pair.target);
  return expectText(String(outcomes[0].last?.['provider-reason']), 'software RNIC', 'librdmacm');
}

async function refused({ folder }: Stage): Promise<string> {
  const args = ['receive', 'rdma:127.0.0.1:0', '--image', join(folder, 'none'), '--provider', 'verbs'];
  await using command = new RdmaMigrate(args);
  const outcome = await command.outcome();
  expectTypedError(outcome, ['PROVIDER_UNAVAILABLE']);
  return expectText(String(outcome.last?.message), 'librdmacm', 'apt-get install rdma-core');
}

async function unbuilt(stage: Stage): Promise<string> {
  await rm(join(RELEASE, 'rdma_migrate_verbs.so'));
  return advised({ found: 'rdma_migrate_verbs.so', remedy: 'libibverbs-dev librdmacm-dev' })(stage);
}

export function casesWithoutRdmaCore(): NamedCase<Stage>[] {
  const cases: NamedCase<Stage>[] = [
    { name: 'removed', run: removeRdmaCore },
    { name: 'ldd', run: needs },
    { name: 'doctor', run: advised({ found: 'librdmacm.so.1', remedy: 'apt-get install rdma-core' }) },
    { name: 'rdma-migrate → rdma-migrate, auto', run: viaSoftware },
    { name: '--provider verbs', run: refused },
    { name: 'doctor where the verbs provider was not built', run: unbuilt },
  ];
  return cases.map(({ name, run: work }) => ({ name: `without rdma-core: ${name}`, run: work }));
}

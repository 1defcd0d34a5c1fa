/**
 * What a user does with an installed package, run in the folder of its project: `node check.mjs ADDON_KIND [emulated]`. Prints a line for each thing that works and ends
 * with 1 at the first that does not. Plain JavaScript: there is nothing but Node here.
 */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';

const MIB = 2 ** 20;
/** Of it all; a processor that is emulated takes minutes. */
const LIMIT_MS = 600_000;
const [addonKind = 'prebuilt', processor] = process.argv.slice(2);
const project = process.cwd();
const consumer = createRequire(join(project, 'consumer.js'));
const command = join(project, 'node_modules/.bin/rdma-migrate');
const signal = AbortSignal.timeout(LIMIT_MS);

async function imports() {
  const script = "const m = await import('rdma-migrate'); console.log(Object.keys(m).sort().join())";
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  const required = consumer('rdma-migrate');
  const names = Object.keys(required).filter(
    (name) => !['default', '__esModule', 'module.exports'].includes(name),
  );
  deepEqual(names.sort().join(), stdout.trim());
  equal(typeof consumer('rdma-migrate/verbs').listen, 'function');
  return `import and require: ${names.length} exports`;
}

async function worker() {
  const script =
    "require('worker_threads').parentPort.postMessage(typeof require('rdma-migrate').MigrationSource)";
  for (let round = 0; round < 3; round += 1) {
    const thread = new Worker(script, { eval: true });
    const [[type]] = await Promise.all([
      once(thread, 'message', { signal }),
      once(thread, 'exit', { signal }),
    ]);
    equal(type, 'function');
  }
  return 'a worker thread loads it, three times';
}

async function doctor() {
  const { stdout } = await promisify(execFile)(command, ['doctor', '--json'], { signal }).catch(
    (error) => error,
  );
  const { checks } = JSON.parse(stdout);
  const { details, found } = checks.find(({ name }) => name === 'addon');
  const missing = checks.filter(({ essential, status }) => essential && status === 'missing');
  // Its self-test has 20 seconds, which an emulated processor may not get.
  const excused = processor === 'emulated' ? ['self-test'] : [];
  ok(
    missing.every(({ name }) => excused.includes(name)),
    stdout,
  );
  equal(details.kind, addonKind);
  return `doctor: ${missing.length === 0 ? 'ready' : 'no time for its self-test'}; addon ${found}; ${checks.find(({ name }) => name === 'self-test').found}`;
}

/** A VM in memory becomes an image, by a migration within this process. */
async function makeImage(path) {
  const { ImageWriter, MigrationDestination, MigrationSource, mapFile, sealDeviceState, streamHeader } =
    consumer('rdma-migrate');
  const length = BigInt(32 * MIB);
  const file = join(project, 'ram');
  const ram = await open(file, 'w');
  await ram.write(Buffer.alloc(8 * MIB, 'rdma-migrate'), 0, 8 * MIB, MIB);
  await ram.truncate(Number(length));
  await ram.close();
  const mapping = await mapFile({ path: file, length, mode: 'read' });
  const layout = { machine: 'installed-1.0', pageSize: 4096, blocks: [{ name: 'ram', length }] };
  const vm = {
    layout,
    ramSection: { sectionId: 1, instanceId: 0 },
    blocks: [{ ...layout.blocks[0], mapping }],
    before: streamHeader(layout),
    async *after() {
      yield sealDeviceState({ pageSize: 4096, devices: [{ name: 'cpu', state: Buffer.from('registers') }] });
    },
  };
  const target = await ImageWriter.open(path);
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
  const source = new MigrationSource(vm, destination.uri, { verify: true });
  const [sent] = await Promise.all([source.migrate({ signal }), destination.receive({ signal })]);
  await destination.close();
  await target.close();
  await mapping.close();
  await rm(file);
  return sent.outcome ?? sent.status;
}

/** The command at both ends, each in its own process. */
async function sendImage(from, to) {
  const receiver = spawn(command, ['receive', 'rdma:127.0.0.1:0', '--image', to], {
    stdio: ['ignore', 'pipe', 'inherit'],
    signal,
  });
  const ended = once(receiver, 'close');
  let uri;
  for await (const line of createInterface(receiver.stdout)) {
    uri ??= /listening at (\S+)/.exec(line)?.[1];
    if (uri !== undefined) break;
  }
  receiver.stdout.resume();
  await promisify(execFile)(command, ['send', from, uri], { signal });
  const [code] = await ended;
  equal(code, 0);
}

async function moves() {
  const [first, second] = ['vm1', 'vm2'].map((name) => join(project, name));
  await makeImage(first);
  await sendImage(first, second);
  const names = (await readdir(first)).filter((name) => name.startsWith('ram'));
  ok(names.length > 0);
  for (const name of names) {
    const [one, other] = await Promise.all([first, second].map((folder) => readFile(join(folder, name))));
    ok(one.equals(other), `${name} differs`);
    ok(one.includes('rdma-migrate'), `${name} is empty`);
  }
  await Promise.all([first, second].map((folder) => rm(folder, { recursive: true })));
  return 'an image moves through 127.0.0.1, and is the same';
}

for (const step of [imports, worker, doctor, moves]) console.log(`  ${await step()}`);

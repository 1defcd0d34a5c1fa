// Records a move of a running guest between two QEMUs on this host, as it appears to an operator, and
// draws it as docs/images/move.svg. Run by `npm run docs:cast`; needs the built package and QEMU.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { draw } from './draw.mjs';

const ADDRESS = 'rdma:127.0.0.1:4444';
const LIMIT_MS = 120_000;
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const OUTPUT = fileURLToPath(new URL('../images/move.svg', import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'cast-'));
const state = join(folder, 'state');
const qmp = join(folder, 'vm1.qmp');
const memory = ['src', 'dst'].map((end) => `/dev/shm/cast-${process.pid}-${end}`);
/** @type {import('node:child_process').ChildProcess[]} */
const children = [];
/** QEMU at the destination outlives `receive`, in a session of its own.
 * @type {number | undefined} */
let arrived;

/** The options of a guest of 1 GiB with its RAM in a file. @param {string} path */
const guest = (path) => [
  ...['qemu-system-x86_64', '-machine', 'pc-i440fx-7.2,memory-backend=pc.ram', '-m', '1G', '-object'],
  `memory-backend-file,id=pc.ram,size=1G,mem-path=${path},share=on`,
  ...['-display', 'none'],
];

/** What is shown: an operator's paths. @param {string} text */
const operators = (text) =>
  text
    .replaceAll(qmp, '/run/vm1.qmp')
    .replaceAll(state, '/run/rdma-migrate')
    .replaceAll(memory[0], '/dev/shm/vm1')
    .replaceAll(memory[1], '/dev/shm/vm1');

/** @param {string[]} argv @param {(line: string) => void} onLine @returns {Promise<number | null>} */
function run(argv, onLine) {
  const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (/** @type {string} */ chunk) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line);
    });
  }
  return new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
}

/** @param {() => boolean} condition @param {string} what */
async function until(condition, what) {
  const end = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${LIMIT_MS / 1000} s`);
    await sleep(20);
  }
}

function endAll() {
  for (const child of children)
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  try {
    if (arrived !== undefined) process.kill(arrived, 'SIGKILL');
  } catch {
    // It has ended already.
  }
  for (const path of [folder, ...memory]) rmSync(path, { recursive: true, force: true });
}

async function record() {
  /** @type {import('./draw.mjs').Line[]} */
  const lines = [];
  const source = run(guest(memory[0]).concat('-qmp', `unix:${qmp},server=on,wait=off`), console.error);
  source.catch(() => {});
  await until(() => existsSync(qmp), 'QEMU at the source');
  await sleep(3000);

  const start = performance.now();
  /** @param {'source' | 'destination'} host */
  const at = (host) => (/** @type {string} */ line) => {
    console.log(`${host}: ${line}`);
    const pid = /process (\d+)/.exec(line);
    if (host === 'destination' && pid) arrived = Number(pid[1]);
    lines.push({ host, text: operators(line), at: performance.now() - start });
  };
  /** @param {'source' | 'destination'} host @param {string[]} shown */
  const prompt = (host, shown) => {
    for (const text of shown) lines.push({ host, text, at: performance.now() - start, command: true });
  };

  prompt('destination', [
    `rdma-migrate qemu receive ${ADDRESS} -- \\`,
    '  qemu-system-x86_64 -machine pc-i440fx-7.2,memory-backend=pc.ram -m 1G -display none \\',
    '  -object memory-backend-file,id=pc.ram,size=1G,mem-path=/dev/shm/vm1,share=on',
  ]);
  const command = [process.execPath, CLI, 'qemu'];
  const receive = run(
    [...command, 'receive', ADDRESS, '--state-dir', state, '--', ...guest(memory[1])],
    at('destination'),
  );
  receive.catch(() => {});
  await until(() => lines.some((line) => !line.command), 'receive');
  await sleep(1500);
  prompt('source', [`rdma-migrate qemu move --qmp /run/vm1.qmp ${ADDRESS}`]);
  const moved = await run([...command, 'move', '--qmp', qmp, ADDRESS], at('source'));
  const received = await receive;
  if (moved !== 0 || received !== 0) throw new Error(`move ended with ${moved}, receive with ${received}`);
  return lines;
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
process.once('exit', endAll);
const deadline = setTimeout(() => {
  console.error(`not done within ${LIMIT_MS / 1000} s`);
  process.exit(1);
}, LIMIT_MS);
const svg = draw(await record());
clearTimeout(deadline);
if (svg.length > 20_000) throw new Error(`${svg.length} characters: more than a picture of 20 kB`);
writeFileSync(OUTPUT, svg);
process.exit(0);

/**
 * Sees to everything that a demo needs. Plain JavaScript on purpose: it has to say what is missing on a machine where nothing has
 * been installed or built yet.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const OLDEST_NODE = [20, 19];
const SETUP_FAILED = 2;

/** What builds the native core: any of `commands` will do, `package` is Debian's. */
const BUILD_TOOLS = [
  { commands: ['c++', 'g++', 'clang++'], package: 'g++' },
  { commands: ['cmake'], package: 'cmake' },
  { commands: ['make', 'ninja'], package: 'make' },
];

function fail(message) {
  console.error(`The demo cannot run here: ${message}`);
  process.exit(SETUP_FAILED);
}

function requirePlatform() {
  const { platform, arch, versions } = process;
  if (platform !== 'linux' || !['x64', 'arm64'].includes(arch)) {
    fail(`it needs Linux on x86-64 or arm64, and this is ${platform} on ${arch}`);
  }
  const [major = 0, minor = 0] = versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  fail(
    `it needs Node ${OLDEST_NODE.join('.')} or later, and this is ${versions.node}. Debian: ` +
      'curl -fsSL https://deb.nodesource.com/setup_22.x | sudo bash - && sudo apt-get install -y nodejs',
  );
}

function requireBuildTools() {
  const works = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  const missing = BUILD_TOOLS.filter(({ commands }) => !commands.some(works));
  if (missing.length === 0) return;
  const names = missing.map(({ commands }) => commands.join(' or ')).join(', ');
  const packages = missing.map((tool) => tool.package).join(' ');
  fail(`the native core has to be built, and there is no ${names}: sudo apt-get install -y ${packages}`);
}

function run(what, command, args) {
  console.log(`Setting up: ${what} (${[command, ...args].join(' ')})`);
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit' });
  if (error) fail(`${command} cannot be started: ${error.message}`);
  if (status !== 0) fail(`${what} failed, see above`);
}

/** Ends the process with 2 when something is missing that it cannot get. */
export function setUp() {
  requirePlatform();
  const inRoot = (path) => existsSync(`${ROOT}${path}`);
  const built = () => inRoot('build/Release/rdma_migrate.node');
  if (!built()) requireBuildTools();
  // npm writes this file when an installation is complete.
  if (!inRoot('node_modules/.package-lock.json')) {
    run('installing the dependencies', 'npm', ['ci', '--include=dev', '--no-audit', '--no-fund']);
  }
  if (!built()) run('building the native core', 'npm', ['run', 'build:native']);
  const tsc = `${ROOT}node_modules/typescript/bin/tsc`;
  run('compiling the library', process.execPath, [tsc, '-p', 'tsconfig.build.json']);
  run('compiling the examples', process.execPath, [tsc, '-p', 'tsconfig.examples.json']);
}

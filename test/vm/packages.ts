/** Debian packages that the bench uses: in the VM, whose root is this machine's file system, and to set itself up. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { unavailable } from './failures.ts';
import { tool } from './tool.ts';

export const PACKAGES = [
  'gcc',
  'ibverbs-providers',
  'ibverbs-utils',
  'iproute2',
  'kmod',
  'make',
  'openssl',
  'perftest',
  'qemu-system-x86',
  'rdma-core',
  'rdmacm-utils',
  'util-linux',
  'xz-utils',
] as const;

/** Those of `wanted` that `dpkg-query -W -f '${Package} ${db:Status-Status}\n'` does not list as installed. */
export function missingPackages(wanted: readonly string[], listing: string): string[] {
  const installed = new Set(
    listing
      .split('\n')
      .flatMap((line) => (line.endsWith(' installed') ? [line.slice(0, line.indexOf(' '))] : [])),
  );
  return wanted.filter((name) => !installed.has(name));
}

async function installedListing(): Promise<string> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const query = ['-W', '-f', '${Package} ${db:Status-Status}\n', ...PACKAGES];
  return promisify(execFile)('dpkg-query', query).then(
    ({ stdout }) => stdout,
    // It fails if it does not know one of the names, but still lists the others.
    (cause: NodeJS.ErrnoException & { stdout?: string }) => {
      if (cause.code === 'ENOENT')
        throw unavailable('it needs Debian 12 and its packages, and there is no dpkg here', cause);
      return cause.stdout ?? '';
    },
  );
}

/**
 * Makes sure that all packages are installed: root installs them, others are told how.
 *
 * @throws BenchError (exit code 69)
 */
export async function ensurePackages(say: (text: string) => void): Promise<void> {
  if (process.arch !== 'x64')
    throw unavailable(`it emulates an x86-64 machine on an x86-64 host, and this is ${process.arch}`);
  const missing = missingPackages(PACKAGES, await installedListing());
  if (missing.length === 0) return;
  const command = ['install', '-y', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0)
    throw unavailable(
      `packages are missing. Install them: sudo apt-get install --no-install-recommends ${missing.join(' ')}`,
    );
  say(`installing ${missing.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await tool('apt-get', command, { env }).catch(async () => {
    await tool('apt-get', ['update'], { env });
    await tool('apt-get', command, { env });
  });
}

/** What this machine must have. */
import { access, constants } from 'node:fs/promises';

const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const TOOLS = {
  'libvirt-daemon-system': ['libvirtd'],
  'libvirt-clients': ['virsh'],
  'qemu-system-x86': ['qemu-system-x86_64'],
  binutils: ['as', 'ld'],
  iproute2: ['ip'],
  'util-linux': ['unshare', 'nsenter'],
} as const;

/** In words; undefined: nothing. */
export async function whatIsMissing(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'it makes namespaces, which needs root';
  const packages: string[] = [];
  for (const [name, tools] of Object.entries(TOOLS)) {
    for (const tool of tools) if (!(await isThere(tool)) && !packages.includes(name)) packages.push(name);
  }
  if (packages.length === 0) return undefined;
  return `packages are missing: apt-get install --no-install-recommends ${packages.join(' ')}`;
}

async function isThere(tool: string): Promise<boolean> {
  for (const folder of FOLDERS) {
    if (await access(`${folder}/${tool}`, constants.X_OK).then(...YES_OR_NO)) return true;
  }
  return false;
}

const YES_OR_NO = [() => true, () => false] as const;

/** Node, the kernel, the processor. */
import { type Check, named } from './check.ts';
import { atLeast, type System } from './system.ts';

/** `engines` of package.json: versions whose require() takes ES modules without a flag. */
function isSupported(version: string): boolean {
  return atLeast(version, 22, 12) || (atLeast(version, 20, 19) && !atLeast(version, 21, 0));
}

export function checkNode({ nodeVersion, platform, arch }: System): Check {
  const details = { version: nodeVersion, platform, arch };
  const check = named('node', 'Node.js', { essential: true, details });
  const found = `${nodeVersion} on ${platform} ${arch}`;
  if (platform !== 'linux' || !['x64', 'arm64'].includes(arch)) {
    return check.missing(found, 'use a machine with Linux on x86-64 or arm64');
  }
  if (!isSupported(nodeVersion)) {
    return check.missing(found, 'install Node 20.19, 22.12 or newer: https://nodejs.org/en/download');
  }
  return check.ok(found);
}

/** 5.14: MADV_POPULATE_WRITE, which makes a receiver's pages ready in bulk. */
export function checkKernel({ kernel }: System): Check {
  const check = named('kernel', 'kernel', { details: { release: kernel } });
  if (atLeast(kernel, 5, 14)) return check.ok(kernel);
  return check.warning(
    `${kernel}: no MADV_POPULATE_WRITE, pages are touched one by one`,
    'boot kernel 5.14 or newer',
  );
}

export function checkCrc({ arch, read }: System): Check {
  const cpuinfo = read('/proc/cpuinfo') ?? '';
  const feature = arch === 'arm64' ? 'crc32' : 'sse4_2';
  const flags = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(/\s+/) ?? [];
  const check = named('cpu-crc32c', 'CRC32C in hardware', {
    details: { feature, present: flags.includes(feature) },
  });
  if (flags.includes(feature)) return check.ok(`${feature}: option crc costs little`);
  return check.warning(
    `the CPU shows no ${feature}: option crc is computed by tables, at a fraction of the speed`,
    `give the machine a CPU model with ${feature} (QEMU: -cpu host), or migrate without --crc`,
  );
}

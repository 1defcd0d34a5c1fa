/** QEMU on this machine. Migrating an image does not need it, but most VMs come from it and go to it. */
import { execFile } from 'node:child_process';
import { constants, createReadStream } from 'node:fs';
import { access } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type Check, named } from './check.ts';
import { KERNEL_DEVICES } from './devices.ts';
import type { System } from './system.ts';

const VERSION_TIMEOUT_MS = 5_000;
/** The library that a QEMU with rdma: is linked to, by its name in the dynamic section. */
const RDMA_LIBRARY = Buffer.from('librdmacm.so');

/** What needs no `rdma:` of QEMU's. */
const INSTEAD =
  'move its VMs by rdma-migrate qemu move (while they run), by rdma-migrate tunnel, which carries any migration of QEMU, or by image from-qemu and image to-qemu';

/** Migrating by QEMU's own rdma: takes a QEMU that has it, and a device: the software RNIC is this program's, not QEMU's. */
export async function checkQemu(system: System, signal?: AbortSignal): Promise<Check> {
  const name = system.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
  const executable = await find(name, system.path);
  const check = named('qemu', 'QEMU');
  if (executable === undefined) {
    const debian = system.arch === 'arm64' ? 'qemu-system-arm' : 'qemu-system-x86';
    return check.missing(
      `${name} is not on the PATH; images can be sent and received without it`,
      `apt-get install ${debian}`,
    );
  }
  const version = await versionOf(executable, signal);
  if (version === undefined)
    return check.warning(`${executable} does not run`, `look at the output of ${executable} --version`);
  const rdma = await contains(executable, RDMA_LIBRARY, signal);
  const usable = rdma && system.list(KERNEL_DEVICES).length > 0;
  const details = { executable, version, rdma, usable };
  if (!rdma)
    return check.warning(`${version}, without rdma:`, `build QEMU with --enable-rdma, or ${INSTEAD}`, {
      details,
    });
  const found = `${version}, linked to librdmacm: has rdma:`;
  if (usable) return check.ok(found, { details });
  return check.warning(
    `${found}, which needs an RDMA device, and this machine has none: it ends with "could not create rdma event channel"`,
    `give QEMU's host an RDMA device (Linux has siw: rdma link add siw0 type siw netdev eth0), or ${INSTEAD}`,
    { details },
  );
}

async function find(name: string, path: readonly string[]): Promise<string | undefined> {
  for (const folder of path) {
    const executable = `${folder}/${name}`;
    const usable = await access(executable, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return executable;
  }
  return undefined;
}

async function versionOf(executable: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  const options = { timeout: VERSION_TIMEOUT_MS, ...(signal && { signal }) };
  const run = promisify(execFile)(executable, ['--version'], options);
  const output = await run.then(
    ({ stdout }) => stdout,
    () => '',
  );
  return /version ([^\n]+)/.exec(output)?.[1];
}

/** Reads the file instead of running it: QEMU shows only when trying whether it has rdma:. */
async function contains(path: string, wanted: Buffer, signal: AbortSignal | undefined): Promise<boolean> {
  let tail = Buffer.alloc(0);
  const file = createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) });
  for await (const chunk of file as AsyncIterable<Buffer>) {
    const text = Buffer.concat([tail, chunk]);
    if (text.includes(wanted)) return true;
    tail = text.subarray(Math.max(0, text.length - wanted.length + 1));
  }
  return false;
}

/** The two shell files that tell the VM what to do. */
import type { Device } from './arguments.ts';

/** The RDMA device's address within the VM, and that of the host's 127.0.0.1 (QEMU's user networking). */
export const GUEST_ADDRESS = '10.0.2.15';
export const HOST_ADDRESS = '10.0.2.2';

export interface Job {
  readonly device: Device;
  readonly checkout: string;
  readonly unprivileged: boolean;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const KERNEL_MODULE = { siw: 'siw', rxe: 'rdma_rxe', none: '' } as const;

/** What a command needs to behave as on the host: the rest of the environment describes another machine. */
const CARRIED =
  /^(PATH|LANG|LC_ALL|TZ|CI|NO_COLOR|FORCE_COLOR|(A|L|T|UB)SAN_OPTIONS|(RDMA_MIGRATE|CTEST|DOCTEST)_.*)$/;

/** One word for a shell. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

const assignments = (values: Readonly<Record<string, string>>, prefix = '') =>
  Object.entries(values)
    .map(([name, text]) => `${prefix}${name}=${shellWord(text)}\n`)
    .join('');

/** For guest/start.sh. */
export function settingsScript({ device, checkout, unprivileged }: Job): string {
  return assignments({
    DEVICE: device,
    KERNEL_MODULE: KERNEL_MODULE[device],
    CHECKOUT: checkout,
    UNPRIVILEGED: unprivileged ? '1' : '0',
  });
}

/** Runs the command in the checkout. It can tell from RDMA_MIGRATE_VM_* that it runs in the bench, and on what. */
export function jobScript({ device, checkout, unprivileged, command, environment }: Job): string {
  const carried = Object.entries(environment).flatMap(([name, text]) =>
    text !== undefined && CARRIED.test(name) ? [[name, text] as const] : [],
  );
  const own = {
    HOME: unprivileged ? '/tmp' : '/root',
    RDMA_MIGRATE_VM_DEVICE: device,
    RDMA_MIGRATE_VM_ADDRESS: GUEST_ADDRESS,
    RDMA_MIGRATE_VM_HOST: HOST_ADDRESS,
  };
  const exports = assignments({ ...Object.fromEntries(carried), ...own }, 'export ');
  return `${exports}cd ${shellWord(checkout)} || exit 126\nexec ${command.map(shellWord).join(' ')}\n`;
}

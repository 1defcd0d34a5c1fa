/** QEMU's command line for the bench's VM. */
import type { Forward } from './arguments.ts';

/** The descriptors of the sockets that carry the job's output, as QEMU gets them. */
export const STDOUT_FD = 3;
export const STDERR_FD = 4;

export interface MachineLayout {
  readonly kernel: string;
  readonly initramfs: string;
  /** Holds the modules of the kernel, as /lib/modules does. */
  readonly modules: string;
  readonly checkout: string;
  /** Shared both ways: settings and job go in, the exit status comes out. */
  readonly run: string;
  readonly consoleLog: string;
  readonly memoryMiB: number;
  readonly forward: readonly Forward[];
}

/** QEMU separates keys by commas; a comma in a value is doubled. */
const value = (text: string) => text.replaceAll(',', ',,');

function share(tag: string, path: string, access: 'readonly=on' | 'readonly=off'): string[] {
  return [
    '-virtfs',
    `local,path=${value(path)},mount_tag=${tag},security_model=none,${access},multidevs=remap`,
  ];
}

function port(name: string, fd: number): string[] {
  return ['-chardev', `socket,id=${name},fd=${fd}`, '-device', `virtserialport,chardev=${name},name=${name}`];
}

/** Software emulation: the bench runs without KVM, and the same everywhere. */
export function machineArguments(layout: MachineLayout): string[] {
  const forwards = layout.forward.map(({ host, guest }) => `,hostfwd=tcp:127.0.0.1:${host}-:${guest}`);
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2'],
    ...['-m', `${layout.memoryMiB}M`],
    ...['-kernel', layout.kernel, '-initrd', layout.initramfs],
    ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
    ...['-serial', `file:${value(layout.consoleLog)}`],
    ...['-nic', `user,model=virtio-net-pci${forwards.join('')}`],
    ...['-device', 'virtio-serial-pci'],
    ...port('stdout', STDOUT_FD),
    ...port('stderr', STDERR_FD),
    ...share('root', '/', 'readonly=on'),
    ...share('checkout', layout.checkout, 'readonly=on'),
    ...share('modules', layout.modules, 'readonly=on'),
    ...share('run', layout.run, 'readonly=off'),
  ];
}

export interface QemuMachine {
  /** The file that holds the VM's RAM, mapped shared: QEMU creates it if it does not exist, and keeps its content. */
  readonly ramFile: string;
  /** RAM size in bytes: a multiple of 1 MiB. */
  readonly ramBytes: number;
  /** A Multiboot image, such as the guest of examples/guest. */
  readonly kernel: string;
  /** Where the first serial port's output goes; the file is emptied at the start. */
  readonly serialFile: string;
  /** Wait for a VM instead of booting one: `defer`, or a migration URI that is loaded at once. */
  readonly incoming?: string;
  /** A second QMP socket, for another process than the one that starts QEMU: a path that does not exist yet. */
  readonly qmpSocket?: string;
  /** Do not run the guest before `cont` (`-S`), also after an incoming migration. */
  readonly paused?: boolean;
}

/** The descriptor number of the child's QMP socket. */
export const QMP_FD = 3;

/** QEMU's options separate keys by commas; a comma in a value is doubled. */
function value(text: string | number): string {
  return String(text).replaceAll(',', ',,');
}

/** One word for the shell that QEMU starts for an `exec:` URI. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Arguments for qemu-system-x86_64: a machine `pc` of no more than the guest needs, in software emulation, QMP on a descriptor
 * that it inherits. Source and destination of a migration must be started with the same machine and RAM size.
 */
export function qemuArguments(machine: QemuMachine): string[] {
  const { ramFile, ramBytes, kernel, serialFile, incoming, qmpSocket, paused } = machine;
  const ram = `memory-backend-file,id=pc.ram,size=${ramBytes},mem-path=${value(ramFile)},share=on`;
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg'],
    ...['-m', `${ramBytes / 2 ** 20}M`, '-object', ram, '-machine', 'pc,memory-backend=pc.ram'],
    ...['-chardev', `file,id=serial,path=${value(serialFile)}`, '-serial', 'chardev:serial'],
    ...['-chardev', `socket,id=qmp,fd=${QMP_FD}`, '-mon', 'chardev=qmp,mode=control'],
    ...(qmpSocket === undefined ? [] : ['-qmp', `unix:${value(qmpSocket)},server=on,wait=off`]),
    ...['-kernel', kernel],
    ...(paused ? ['-S'] : []),
    ...(incoming === undefined ? [] : ['-incoming', incoming]),
  ];
}

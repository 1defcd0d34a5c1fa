/** QEMU's arguments of the demo's machines: the source's and, with files of its own, each destination's. */
import { join } from 'node:path';

export interface MachineOptions {
  readonly folder: string;
  readonly executable: string;
  readonly machine: 'pc' | 'q35';
  readonly ramBytes: number;
  /** NUMA nodes, each with an equal part of RAM in a file of its own. */
  readonly nodes: number;
  /** A qcow2 file that all of them use, one after the other. */
  readonly disk: boolean;
  /** The address that the VM is sent to. */
  readonly listen: string;
}

export const ramFilesOf = ({ folder, nodes }: MachineOptions, name: string): string[] =>
  Array.from({ length: nodes }, (_, node) => join(folder, `${name}.ram${node}`));

/** A machine with the guest of examples/guest, in software emulation. */
export function machineArguments(options: MachineOptions, name: string): string[] {
  const { folder, ramBytes, disk } = options;
  return [
    ...[
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-accel',
      'tcg',
      '-m',
      `${ramBytes / 2 ** 20}M`,
    ],
    ...ramArguments(options, name),
    ...['-chardev', `file,id=serial,path=${join(folder, `${name}.serial`)}`, '-serial', 'chardev:serial'],
    ...(disk
      ? [
          ...['-drive', `if=none,id=disk,format=qcow2,file=${join(folder, 'disk.qcow2')}`],
          ...['-device', 'virtio-blk-pci,drive=disk,id=vd0'],
        ]
      : []),
    ...['-kernel', join(folder, 'guest')],
  ];
}

function ramArguments(options: MachineOptions, name: string): string[] {
  const { machine, ramBytes, nodes } = options;
  const backend = (id: string, path: string): string[] => [
    '-object',
    `memory-backend-file,id=${id},size=${ramBytes / nodes},mem-path=${path},share=on`,
  ];
  const files = ramFilesOf(options, name);
  if (nodes === 1)
    return [...backend('pc.ram', files[0] as string), '-machine', `${machine},memory-backend=pc.ram`];
  const all = files.flatMap((path, node) => [
    ...backend(`node${node}`, path),
    '-numa',
    `node,memdev=node${node}`,
  ]);
  return ['-machine', machine, ...all];
}

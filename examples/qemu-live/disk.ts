/** A disk on shared storage whose contents are checked: each turn adds a pattern, and all of them are read again from outside. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MigrationError } from 'rdma-migrate';
import type { Vm } from './vm.ts';

const SECTOR = 64 * 1024;
/** Then it begins again from the front. */
const SECTORS = 512;

const patternOf = (number: number): number => 1 + (number % 255);

export class DiskCheck {
  readonly #path: string;
  readonly #written = new Map<number, number>();

  /** `path`: of the qcow2 file. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Writes as the guest's device would, in the QEMU where the guest is. */
  async write(vm: Vm, number: number): Promise<void> {
    const at = number % SECTORS;
    await vm.monitor(`qemu-io disk "write -P ${patternOf(number)} ${at * SECTOR} ${SECTOR}"`);
    this.#written.set(at, patternOf(number));
  }

  /**
   * Reads everything that was written, and checks the file's own tables.
   * @throws MigrationError IMAGE_INVALID: something is not there
   */
  async check(vm: Vm): Promise<void> {
    await vm.monitor('qemu-io disk flush');
    const reads = [...this.#written].flatMap(([at, pattern]) => [
      '-c',
      `read -P ${pattern} ${at * SECTOR} ${SECTOR}`,
    ]);
    const said = await run('qemu-io', ['-U', '-r', '-f', 'qcow2', ...reads, this.#path]);
    await run('qemu-img', ['check', '-U', '-f', 'qcow2', this.#path]);
    const good = said.split(`read ${SECTOR}/${SECTOR} bytes`).length - 1;
    if (good === this.#written.size && !/fail|error/i.test(said)) return;
    throw new MigrationError(
      'IMAGE_INVALID',
      'image',
      `${vm.name}: the disk does not hold what was written: ${said.trim().slice(-500)}`,
    );
  }
}

async function run(tool: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(tool, [...args]);
    return stdout + stderr;
  } catch (cause) {
    throw new MigrationError('IMAGE_INVALID', 'image', `${tool}: ${(cause as Error).message}`, { cause });
  }
}

/** Room in the folder of a service: VMs that are on their way may all become as large as their RAM. */
import { MigrationError } from '../../errors.ts';
import { type FreeSpace, freeSpace } from '../../image/space.ts';

interface Pledge {
  readonly ramBytes: bigint;
  /** Of these, on the disk already. */
  readonly written: () => number;
}

export class FolderSpace {
  readonly #folder: string;
  readonly #freeAt: (folder: string) => Promise<FreeSpace>;
  readonly #pledges = new Map<string, Pledge>();

  constructor(folder: string, freeAt: (folder: string) => Promise<FreeSpace> = freeSpace) {
    this.#folder = folder;
    this.#freeAt = freeAt;
  }

  /**
   * Room for a VM with so much RAM, until {@link giveBack}.
   * @throws MigrationError DISK_FULL with `needed`, `free` and what of that is `pledged` to others
   */
  async take(id: string, ramBytes: bigint, written: () => number): Promise<void> {
    // At once, so that two which ask at the same time see each other.
    const others = this.#pledged();
    this.#pledges.set(id, { ramBytes, written });
    const { free } = await this.#freeAt(this.#folder);
    if (free === undefined || ramBytes + others <= free) return;
    this.giveBack(id);
    throw noRoom(this.#folder, { needed: ramBytes, free, pledged: others });
  }

  /** Idempotent. */
  giveBack(id: string): void {
    this.#pledges.delete(id);
  }

  #pledged(): bigint {
    return [...this.#pledges.values()].reduce((sum, { ramBytes, written }) => {
      const left = ramBytes - BigInt(Math.trunc(written()));
      return left > 0n ? sum + left : sum;
    }, 0n);
  }
}

function noRoom(
  folder: string,
  details: { readonly needed: bigint; readonly free: bigint; readonly pledged: bigint },
): MigrationError {
  const { needed, free, pledged } = details;
  const others = pledged === 0n ? '' : `, of which VMs that are on their way may take ${pledged}`;
  const message =
    `the VM may take ${needed} bytes in ${folder}, where ${free} are free${others}. Free space there, wait until others have arrived, or, if RAM is ` +
    'sparse, take VMs although they may not fit (--overcommit-disk)';
  return new MigrationError('DISK_FULL', 'image', message, { details });
}

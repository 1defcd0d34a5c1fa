/**
 * Downtime, wherever it is expected, measured or limited: from the moment the VMM is asked to pause its guest until the source knows that the
 * destination has the VM. What comes after that, such as starting the vCPUs there, is no part of it. The switch-over is what of it is the VMM's
 * ({@link Guest.switchoverMs}): `pause`, and of `device-state` and `commit` all but messages.
 *
 * What the guest waits for. `pause`: the VMM stops it. `collect`: what it wrote last is found. `ram`: that is sent. `device-state`: saved by
 * the VMM and sent. `commit`: the destination checks, and its COMMITTED has been read; of a version 1 peer, which says nothing, the connection
 * has ended.
 */
export type DowntimePart = 'pause' | 'collect' | 'ram' | 'device-state' | 'commit';

export type DowntimeParts = Readonly<Record<DowntimePart, number>>;

/** A stopwatch for the time in which the guest stands still, milliseconds. */
export class Downtime {
  readonly #parts: Record<DowntimePart, number> = {
    pause: 0,
    collect: 0,
    ram: 0,
    'device-state': 0,
    commit: 0,
  };
  #began: number | undefined;
  #marked = 0;

  /** The VMM is about to be asked to pause its guest. */
  begin(): void {
    if (this.#began !== undefined) return;
    this.#began = performance.now();
    this.#marked = this.#began;
  }

  /** The time since the last mark belongs to this part. Nothing before `begin`. */
  mark(part: DowntimePart): void {
    if (this.#began === undefined) return;
    const now = performance.now();
    this.#parts[part] += now - this.#marked;
    this.#marked = now;
  }

  get parts(): DowntimeParts {
    return { ...this.#parts };
  }

  /** From `begin` to the last mark; undefined for a guest that was never stopped by the migration. */
  get total(): number | undefined {
    return this.#began === undefined ? undefined : this.#marked - this.#began;
  }
}

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

/** Milliseconds. */
export type DowntimeParts = Readonly<Record<DowntimePart, number>>;

export interface Downtime {
  readonly parts: DowntimeParts;
  /** When it began, and when the last of its parts ended. */
  readonly began: number;
  readonly marked: number;
}

const NO_PARTS: DowntimeParts = { pause: 0, collect: 0, ram: 0, 'device-state': 0, commit: 0 };

/** The VMM is about to be asked to pause its guest. It begins once. */
export const beginDowntime = (before: Downtime | undefined, at: number): Downtime =>
  before ?? { parts: NO_PARTS, began: at, marked: at };

/** The time since the last mark belongs to this part. Nothing for a guest that was never asked to stop. */
export function markDowntime(
  before: Downtime | undefined,
  part: DowntimePart,
  at: number,
): Downtime | undefined {
  if (before === undefined) return undefined;
  const parts = { ...before.parts, [part]: before.parts[part] + at - before.marked };
  return { ...before, parts, marked: at };
}

/** What one end may ask of the other: whoever listens gives no more buffers and time than this to a stranger. */

/** Bytes of one message. */
export const MESSAGE = { least: 1, most: 64 << 20 } as const;
/** Requests under way on one queue pair. */
export const DEPTH = { least: 1, most: 4096 } as const;
export const QUEUE_PAIRS = { least: 1, most: 64 } as const;
export const CHANNELS = { least: 0, most: 16 } as const;
/** Bytes of RAM of a migration, as far as numbers go: how much there is the listening end says. */
export const RAM = { least: 1 << 20, most: 2 ** 44 } as const;
export const RAM_GRANULE = 1 << 20;
/** Of a round, milliseconds. */
export const ROUND_MS = { least: 1, most: 3_600_000 } as const;
/** Bytes of buffers at one end, of all queue pairs. */
export const MOST_BUFFERS = 1 << 30;
/** Of one queue pair, unless a message is larger. Larger than caches, so that memory is measured too. */
const RING = 16 << 20;
/** What one message takes of its ring: eight bytes at least, for what is answered. */
const slotBytes = (messageBytes: number): number => Math.ceil(Math.max(8, messageBytes) / 8) * 8;

export interface Ring {
  /** Bytes of one message's place. */
  readonly slot: number;
  /** Places. More messages than that under way share them: nobody looks at what is in them. */
  readonly slots: number;
  /** Bytes of one queue pair. */
  readonly bytes: number;
}

/** The buffers of one queue pair: the same at both ends. */
export function ringOf(messageBytes: number, depth: number): Ring {
  const slot = slotBytes(messageBytes);
  const slots = Math.max(1, Math.min(depth, Math.floor(RING / slot)));
  return { slot, slots, bytes: slot * slots };
}

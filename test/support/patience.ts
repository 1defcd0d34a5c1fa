/**
 * How long an end waits for a peer that a test lets fall silent, milliseconds. What must happen before the silence
 * happens within it: it is long beside the pauses of a busy machine. Tests that wait so long run beside each other.
 */
export const PATIENCE_MS = 2_000;

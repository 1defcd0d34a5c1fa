/** A peer that has a place at a gate and has not said what a source says first: what it has shown, and how long it may keep its place. */

/**
 * `silent`: not a word. Where credentials are asked for instead: `greeting`, its TLS handshake has not begun; `asking`, its first record has come and
 * nothing has been computed for them; `proving`; `proved`, it has shown who it is.
 */
export type Stage = 'silent' | 'greeting' | 'asking' | 'proving' | 'proved';

export interface Guest {
  readonly host: string;
  stage: Stage;
  /** Since when it is at that stage, of `performance.now()`. */
  since: number;
  /** Its host has asked for another connection meanwhile. */
  twin: boolean;
  /** Aborted, it loses its place. */
  readonly leave: AbortController;
}

export const guestOf = (host: string, stage: Stage): Guest => ({
  host,
  stage,
  since: performance.now(),
  twin: false,
  leave: new AbortController(),
});

/** `asking` and `proving` are one for the time that a peer has. */
export function reach(guest: Guest, stage: Stage): void {
  if (stage !== 'proving') guest.since = performance.now();
  guest.stage = stage;
}

/** Who waits for a place. */
export interface Crowd {
  /** The host of each. */
  readonly waiting: readonly string[];
  /** How many places there are. */
  readonly atOnce: number;
}

/** So many wait that this is no ordinary day: a source of ours speaks at once. */
const CROWD = 8;
/** A QEMU connects twice; a host with more peers than these (and, while they are silent, than half of the places) has less time when others wait. */
const FEW_OF_ONE_HOST = 2;

/**
 * How long one keeps its place when others wait, milliseconds, and in a crowd. A QEMU with much RAM prepares for a moment before it speaks. A
 * handshake takes some round trips, and its turn to be computed on a busy machine. One that has proved who it is has the time of `authorize`.
 */
const PATIENCE_MS: Readonly<Record<Stage, { readonly usual: number; readonly crowd: number }>> = {
  silent: { usual: 3_000, crowd: 250 },
  greeting: { usual: 3_000, crowd: 1_000 },
  asking: { usual: 5_000, crowd: 1_500 },
  proving: { usual: 5_000, crowd: 1_500 },
  proved: { usual: 12_000, crowd: 12_000 },
};

/** @param count how many its host has inside */
export function patienceMs({ host, stage }: Guest, count: number, { waiting, atOnce }: Crowd): number {
  const { usual, crowd } = PATIENCE_MS[stage];
  const speaks = stage === 'asking' || stage === 'proving';
  const many = speaks ? FEW_OF_ONE_HOST : Math.max(FEW_OF_ONE_HOST, atOnce / 2);
  const greedy = count > many && waiting.some((other) => other !== host);
  return greedy || (!speaks && waiting.length >= CROWD) ? crowd : usual;
}

/** Why it has lost its place. */
export function gaveWay({ stage }: Guest, patience: number): string {
  const seconds = `${patience / 1000} s`;
  if (stage === 'silent' || stage === 'greeting')
    return `it has said nothing for ${seconds}, and others wait`;
  if (stage === 'proved')
    return `it has proved who it is, and gone no further for ${seconds}, and others wait`;
  return `it has not proved who it is within ${seconds}, and others wait`;
}

/** When a TLS handshake is computed: a stranger costs this end a signature, and with a crowd of them its thread would have time for nothing else. */
import { unlessAborted } from '../../transport/wait.ts';
import { nextIn } from '../../trust/fairness.ts';
import { type Guest, reach } from './guest.ts';

/** Each takes a few milliseconds of one thread. */
const BEGUN_PER_SECOND = 100;
const PAUSE_MS = 1000 / BEGUN_PER_SECOND;

export class HandshakeTurns {
  readonly #inside: Iterable<Guest>;
  readonly #mostOfOneHost: number;
  /** In the order in which they came; each is called when it is its turn. */
  readonly #waiting = new Map<Guest, () => void>();
  #nextAt = 0;
  #pause: NodeJS.Timeout | undefined;

  /** `inside`: all that have a place. `mostOfOneHost`: handshakes of one host that are under way at one time. */
  constructor(inside: Iterable<Guest>, mostOfOneHost: number) {
    this.#inside = inside;
    this.#mostOfOneHost = mostOfOneHost;
  }

  /**
   * Resolves when it is the guest's turn: hosts with few inside come first.
   * @throws MigrationError the reason of the signal
   */
  async take(guest: Guest, signal: AbortSignal): Promise<void> {
    reach(guest, 'asking');
    const turn = new Promise<void>((resolve) => {
      this.#waiting.set(guest, resolve);
    });
    this.goOn();
    try {
      await unlessAborted(turn, signal, 'negotiate');
    } finally {
      this.#waiting.delete(guest);
    }
  }

  /** To be called when a guest has left, or has proved who it is. */
  goOn(): void {
    clearTimeout(this.#pause);
    const ready = this.#ready();
    if (ready.length === 0) return;
    const left = this.#nextAt - performance.now();
    if (left > 0) {
      this.#pause = setTimeout(() => this.goOn(), left);
      return;
    }
    this.#begin(ready[nextIn(hostsOf(ready), this.#inside)] as Guest);
    this.goOn();
  }

  #begin(guest: Guest): void {
    this.#nextAt = performance.now() + PAUSE_MS;
    const begin = this.#waiting.get(guest);
    this.#waiting.delete(guest);
    reach(guest, 'proving');
    begin?.();
  }

  /** Whoever's host has not too many under way. */
  #ready(): Guest[] {
    const underWay = new Map<string, number>();
    for (const { host, stage } of this.#inside)
      if (stage === 'proving') underWay.set(host, (underWay.get(host) ?? 0) + 1);
    return [...this.#waiting.keys()].filter(({ host }) => (underWay.get(host) ?? 0) < this.#mostOfOneHost);
  }
}

const hostsOf = (guests: readonly Guest[]): string[] => guests.map(({ host }) => host);

/** One open page, or program that watches. It gets what is true now, never what it has missed: a slow one holds nothing up and nothing back. */
import type { WebSocket } from 'ws';
import type { Watched } from './watched.ts';

/** While so much waits to be taken by a viewer it gets nothing new. */
const MOST_WAITING = 256 << 10;
/** Dead ones are known by that they do not answer. */
const SILENT_MS = 30_000;

interface Told {
  /** The time of the last point of the curves. */
  readonly point: number;
  /** Of the map. */
  readonly turn: number;
}

const NOTHING_TOLD: Told = { point: -1, turn: 0 };

export class Viewer {
  readonly #socket: WebSocket;
  /** What it has been sent of each migration. */
  readonly #upTo = new Map<number, Told>();
  #heard = performance.now();

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('pong', () => {
      this.#heard = performance.now();
    });
  }

  /** `state`: the text of the message to all; it is made once. */
  show(state: string, watched: readonly Watched[]): void {
    if (this.#socket.readyState !== this.#socket.OPEN || this.#socket.bufferedAmount > MOST_WAITING) return;
    this.#socket.send(state);
    for (const id of this.#upTo.keys()) if (!watched.some((one) => one.id === id)) this.#upTo.delete(id);
    for (const one of watched) this.#more(one);
  }

  /** The curves and the map, as far as it does not have them. */
  #more(one: Watched): void {
    const { point, turn } = this.#upTo.get(one.id) ?? NOTHING_TOLD;
    const { lastPoint = NOTHING_TOLD.point, map } = one;
    if (lastPoint > point) this.#socket.send(one.pointsAfter(point));
    const fresh = map.since(turn);
    for (const message of fresh.messages) this.#socket.send(message);
    this.#upTo.set(one.id, { point: lastPoint, turn: fresh.turn });
  }

  /** Asks for a sign of life; who has given none for too long is let go. */
  probe(): void {
    if (performance.now() - this.#heard > SILENT_MS) this.#socket.terminate();
    else this.#socket.ping();
  }

  /** What was sent last still goes out, for a moment. */
  async close(code: number, reason: string, withinMs: number): Promise<void> {
    const socket = this.#socket;
    if (socket.readyState === socket.CLOSED) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.close(code, reason);
    const timer = setTimeout(() => socket.terminate(), withinMs);
    await closed;
    clearTimeout(timer);
  }
}

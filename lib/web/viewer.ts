/** One open page, or program that watches. It gets what is true now, never what it has missed: a slow one holds nothing up and nothing back. */
import type { WebSocket } from 'ws';
import { toJson } from '../json.ts';
import type { Watched } from './watched.ts';

/** While so much waits to be taken by a viewer it gets nothing new. */
const MOST_WAITING = 256 << 10;
/** Dead ones are known by that they do not answer. */
const SILENT_MS = 30_000;

export class Viewer {
  readonly #socket: WebSocket;
  /** The points of each migration that it has been sent, by their time. */
  readonly #upTo = new Map<number, number>();
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
    for (const one of watched) this.#curves(one);
  }

  #curves({ id, points }: Watched): void {
    const from = this.#upTo.get(id) ?? -1;
    const fresh = points.filter(({ at }) => at > from);
    if (fresh.length === 0) return;
    this.#upTo.set(id, fresh.at(-1)?.at ?? from);
    this.#socket.send(toJson({ type: 'points', id, points: fresh }));
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

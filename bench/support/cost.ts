/** What a process holds: from /proc, now and at its most. */
import { readdir, readFile } from 'node:fs/promises';

export interface Cost {
  readonly threads: number;
  readonly descriptors: number;
  /** Memory of its own, MiB: shared mappings, as RAM blocks are, do not count. */
  readonly privateMiB: number;
}

const SAMPLE_MS = 20;

/** @throws Error it has ended; one that is about to has given its memory back already */
export async function costOf(pid: number): Promise<Cost> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  const field = (name: string): number => {
    const value = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1];
    if (value === undefined) throw new Error(`process ${pid} has ended`);
    return Number(value);
  };
  const descriptors = (await readdir(`/proc/${pid}/fd`)).length;
  return { threads: field('Threads'), descriptors, privateMiB: field('RssAnon') / 1024 };
}

/** Samples until it is stopped; gives the most of each. */
export class Peak {
  readonly #pid: number;
  readonly #timer: NodeJS.Timeout;
  #most: Cost = { threads: 0, descriptors: 0, privateMiB: 0 };

  constructor(pid: number) {
    this.#pid = pid;
    this.#timer = setInterval(() => void this.#sample(), SAMPLE_MS);
  }

  async #sample(): Promise<void> {
    const now = await costOf(this.#pid).catch(() => undefined);
    if (!now) return;
    this.#most = {
      threads: Math.max(this.#most.threads, now.threads),
      descriptors: Math.max(this.#most.descriptors, now.descriptors),
      privateMiB: Math.max(this.#most.privateMiB, now.privateMiB),
    };
  }

  async stop(): Promise<Cost> {
    clearInterval(this.#timer);
    await this.#sample();
    return this.#most;
  }
}

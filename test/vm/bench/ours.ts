/** Our migrations between two processes of the VM, which live as long as the benchmark. */
import { Child } from '../../../bench/support/child.ts';
import type { Settings, Taken } from './end.ts';

const END = new URL('end.js', import.meta.url);

export class Ours implements AsyncDisposable {
  readonly #source: Child;
  readonly #destination: Child;

  private constructor(folder: string, data: number, total: number) {
    this.#source = new Child(END, ['source', folder, String(data), String(total)]);
    this.#destination = new Child(END, ['destination', folder]);
  }

  /** The build in a folder; a VM with `data` bytes of `total` that are not zero. */
  static async start(folder: string, data: number, total: number): Promise<Ours> {
    const ours = new Ours(folder, data, total);
    await ours.#source.hear();
    return ours;
  }

  /** One migration; the CPU time is that of both ends. */
  async move(settings: Settings): Promise<Taken> {
    this.#destination.say(settings);
    const { uri } = await this.#destination.hear<{ uri: string }>();
    this.#source.say({ ...settings, uri });
    const [sent, received] = await Promise.all([
      this.#source.hear<Taken>(),
      this.#destination.hear<{ cpu: number }>(),
    ]);
    return { ...sent, cpu: sent.cpu + received.cpu };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
    await this.#destination[Symbol.asyncDispose]();
  }
}

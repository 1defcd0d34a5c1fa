import type { ImageWriter } from '../../image/index.ts';
import type { ServiceTarget } from '../../migration/destination/service.ts';
import type { Arrival, RamBlock, ReceivedVm } from '../../ram/vm.ts';

/** A VM's image in the folder of a service, which has to find room there before anything of it is made. */
export class KeptVm implements ServiceTarget {
  readonly ramIsFresh = true;
  readonly #writer: ImageWriter;
  readonly #room: { take(ramBytes: bigint): Promise<void>; giveBack(): void };

  constructor(writer: ImageWriter, room: { take(ramBytes: bigint): Promise<void>; giveBack(): void }) {
    this.#writer = writer;
    this.#room = room;
  }

  async allocate(vm: ReceivedVm): Promise<readonly RamBlock[]> {
    await this.#room.take(vm.layout.blocks.reduce((sum, { length }) => sum + length, 0n));
    return this.#writer.allocate(vm);
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.#writer.append(bytes);
  }

  commit(arrival: Arrival): Promise<void> {
    return this.#writer.commit(arrival);
  }

  abort(): Promise<void> {
    return this.#writer.abort();
  }

  async close(): Promise<void> {
    await this.#writer.close();
    this.#room.giveBack();
  }
}

import { MigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import {
  type CompressCommand,
  type DestinationBlock,
  DIGEST_CHUNK_BYTES,
  type DigestsRequest,
  type RegisterCommand,
} from '../../protocol/control.ts';
import { cut, ZERO_STEP_BYTES } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { DestinationTurns } from '../../transport/turns.ts';
import { unlessAborted } from '../../transport/wait.ts';
import type { Registrations } from '../pins/registrations.ts';
import { WRITTEN_THROUGHOUT } from '../pins/source-pins.ts';
import type { Arrivals } from './arrivals.ts';
import {
  type AnnouncedBlock,
  checkDigests,
  checkRange,
  checkRegister,
  checkUnregister,
  layOut,
} from './bounds.ts';
import type { Told } from './told-pages.ts';

export interface RamRequestsOptions {
  readonly connection: Connection;
  readonly turns: DestinationTurns;
  readonly agreed: Agreed;
  readonly blocks: readonly RamBlock[];
  readonly registrations: Registrations;
  readonly arrivals: Arrivals;
  /** Where somebody has to know which pages were told of. */
  readonly told: Told | undefined;
  /** Aborts when the migration is given up or the connection has ended. */
  readonly alive: AbortSignal;
}

/** What a source asks of the destination's RAM. Every request is checked before anything of it is done. */
export class RamRequests {
  readonly #options: RamRequestsOptions;
  readonly #announced: readonly AnnouncedBlock[];

  constructor(options: RamRequestsOptions) {
    this.#options = options;
    this.#announced = layOut(options.blocks);
  }

  async announce(): Promise<void> {
    const { agreed, registrations, turns } = this.#options;
    const rkeys = agreed.pinAll ? await registrations.registerAll() : [];
    const blocks: DestinationBlock[] = this.#options.blocks.map(({ mapping, length }, index) => ({
      hostAddress: mapping.address,
      offset: (this.#announced[index] as AnnouncedBlock).offset,
      length,
      rkey: rkeys[index] ?? 0,
    }));
    await turns.answer({ type: 'RAM_BLOCKS_RESULT', blocks });
  }

  /** What RAM holds now, and nothing that was noted of it. @throws MigrationError PROTOCOL_ERROR out of bounds; IO_ERROR */
  async digests(request: DigestsRequest): Promise<void> {
    const { turns, alive } = this.#options;
    const { index, span } = checkDigests(this.#announced, request);
    const { mapping } = this.#block(index);
    const read = mapping.digestChunks(span.offset, span.length, DIGEST_CHUNK_BYTES);
    await turns.answer({ type: 'DIGESTS_RESULT', digests: await unlessAborted(read, alive, 'setup') });
  }

  /** @throws MigrationError PROTOCOL_ERROR out of bounds, or no zeros */
  async zero(command: CompressCommand): Promise<void> {
    if (command.value !== 0) {
      throw new MigrationError(
        'PROTOCOL_ERROR',
        'ram',
        `COMPRESS with the value ${command.value}: only 0 is defined`,
      );
    }
    const { connection, told, arrivals, alive } = this.#options;
    const { index, span } = checkRange(this.#announced, command, 'COMPRESS');
    const { mapping } = this.#block(index);
    // A version 1 source may ask for all of RAM in one: whoever gives up meanwhile need not wait for it.
    for (const { offset, length } of cut(span, ZERO_STEP_BYTES)) {
      await unlessAborted(mapping.zero(offset, length, !connection.info.pinsMemory), alive, 'ram');
    }
    told?.zeros(index, span);
    arrivals.zeros(span.length);
  }

  /** @throws MigrationError PROTOCOL_ERROR out of bounds, REGISTER_FAILED, LOCKED_MEMORY_LIMIT */
  async register(commands: readonly RegisterCommand[]): Promise<void> {
    const { agreed, registrations, turns, told, arrivals } = this.#options;
    // All are checked before the first is carried out.
    const spans = commands.map((command) => {
      const { index, span } = checkRegister(this.#announced, command);
      // Sparse RAM stays untouched where nothing will be written.
      const populate = !agreed.sparse || command.padding === WRITTEN_THROUGHOUT;
      return { index, span, populate };
    });
    for (const { index, span } of spans) told?.registered(index, span);
    arrivals.registered(spans);
    const rkeys = await registrations.register(spans);
    const results = spans.map(({ index }, at) => ({
      rkey: rkeys[at] as number,
      hostAddress: this.#block(index).mapping.address,
    }));
    await turns.answer({ type: 'REGISTER_RESULT', results });
  }

  async unregister(commands: readonly RegisterCommand[]): Promise<void> {
    const { registrations, turns } = this.#options;
    const ranges = commands.map((command) => checkUnregister(this.#announced, command));
    await registrations.unregister(ranges);
    await turns.answer({ type: 'UNREGISTER_FINISHED' });
  }

  #block(index: number): RamBlock {
    return this.#options.blocks[index] as RamBlock;
  }
}

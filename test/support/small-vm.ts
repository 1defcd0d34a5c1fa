/** A VM of two small blocks, its stream in the pieces in which QEMU flushes it, and its device state. */
import {
  beginning,
  description,
  device,
  eos,
  footer,
  header,
  hook,
  upToBlocks,
} from '../protocol/streams.ts';

export const CHUNK = 1 << 20;

/** RAM of four chunks, the last one short, and a ROM of three pages. */
export const SMALL_BLOCKS = [
  { name: 'pc.ram', length: 0x31_0000n },
  { name: '/rom@etc/acpi/tables', length: 0x3000n },
] as const;

export const SMALL_DEVICE_STATE = Buffer.concat([
  device(40, 'timer', Buffer.alloc(100, 1)),
  device(41, 'cpu', Buffer.alloc(3000, 2)),
  description([
    { name: 'timer', instance_id: 0 },
    { name: 'cpu', instance_id: 0 },
  ]),
]);

/** START up to its HOOK of a VM with these blocks. */
export const startOf = (blocks: readonly { readonly name: string; readonly length: bigint }[]): Buffer =>
  Buffer.from(upToBlocks(beginning().bytes(), blocks).raw(hook()).bytes());

/** START up to its HOOK, and what follows on each REGISTER_FINISHED. */
export const PIECE = {
  start: startOf(SMALL_BLOCKS),
  eos: Buffer.from(eos()),
  end: Buffer.concat([footer(), header(3), hook()]),
  part: Buffer.concat([footer(), header(2), hook()]),
  device: Buffer.concat([footer(), SMALL_DEVICE_STATE]),
} as const;

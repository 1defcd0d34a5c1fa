/** What one `rdma-migrate qemu` tells the other of its VM before RAM moves: JSON in a DESCRIPTION. A peer's words are not believed before they are checked. */
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import { DESCRIPTION_MAX_BYTES } from '../protocol/messages.ts';
import { INTERNAL, MOST_DEVICES, missing } from './devices.ts';
import type { QemuMachine } from './machine.ts';
import type { SharedBlock } from './memory.ts';

const FORMAT = 'rdma-migrate-qemu';
/** How many differences a message names. */
const NAMED = 4;

/** On one line of a terminal or a log. */
const word = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[\x20-\x7e]+$/);
const bytes = z.string().regex(/^(0|[1-9]\d{0,19})$/);
const block = z.object({ name: word, length: bytes, guestAddress: bytes.optional() });
const schema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(1),
  qemu: word,
  machine: word,
  running: z.boolean(),
  blocks: z.array(block).min(1).max(4096),
  devices: z.array(word).max(MOST_DEVICES),
});

/** `guestAddress` only of blocks that are shared. Lengths and addresses in decimal digits. */
export type QemuDescription = Omit<z.infer<typeof schema>, 'format' | 'version'>;

export function describe(
  vm: { readonly qemu: string; readonly machine: QemuMachine; readonly running: boolean },
  shared: readonly SharedBlock[],
  devices: readonly string[],
): QemuDescription {
  const { qemu, machine, running } = vm;
  const blocks = machine.blocks.map(({ name, length }) => {
    const found = shared.find((one) => one.name === name);
    return { name, length: `${length}`, ...(found && { guestAddress: `${found.guestAddress}` }) };
  });
  return { qemu, machine: machine.machine, running, blocks, devices: [...devices] };
}

/** @throws MigrationError GUEST_ERROR: it is too long */
export function encodeDescription(description: QemuDescription): Uint8Array {
  const encoded = Buffer.from(JSON.stringify({ format: FORMAT, version: 1, ...description }));
  if (encoded.length <= DESCRIPTION_MAX_BYTES) return encoded;
  const message = `the description of the VM takes ${encoded.length} bytes, more than ${DESCRIPTION_MAX_BYTES}`;
  throw new MigrationError('GUEST_ERROR', 'configure', message);
}

/** @throws MigrationError PROTOCOL_ERROR */
export function decodeDescription(encoded: Uint8Array): QemuDescription {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(encoded)));
  } catch (cause) {
    const message =
      'the source describes its VM in a way that is not known here: use the same release of rdma-migrate at both ends';
    throw new MigrationError('PROTOCOL_ERROR', 'setup', message, { cause });
  }
}

/**
 * Why the VM of one QEMU cannot go on in another one that waits for it.
 * @throws MigrationError BLOCK_MISMATCH
 */
export function requireSameVm(source: QemuDescription, here: QemuDescription): void {
  const [theirs, ours] = [source.blocks.map(blockLine), here.blocks.map(blockLine)];
  const differences = [
    ...(source.machine === here.machine ? [] : [`machine ${source.machine} there and ${here.machine} here`]),
    ...both('RAM block', theirs, ours),
    ...both('device', comparable(source, here), comparable(here, source)),
  ];
  if (differences.length === 0) return;
  const more = differences.length - NAMED;
  const named = differences.slice(0, NAMED).join('; ') + (more > 0 ? `; and ${more} more` : '');
  const message =
    `the waiting QEMU (${here.qemu}) is another machine than the source's (${source.qemu}): ${named}. Start both with the same options: machine with its ` +
    'version, CPU, memory, devices';
  throw new MigrationError('BLOCK_MISMATCH', 'setup', message);
}

/** Releases of QEMU that divide a machine in the same way compare all of it. */
const comparable = ({ qemu, devices }: QemuDescription, other: QemuDescription): readonly string[] =>
  release(qemu) === release(other.qemu) ? devices : devices.filter((line) => !line.startsWith(INTERNAL));

const release = (version: string): string => version.split('.').slice(0, 2).join('.');

const blockLine = ({ name, length, guestAddress }: QemuDescription['blocks'][number]): string =>
  `${name} of ${length} bytes${guestAddress === undefined ? '' : `, shared, at 0x${BigInt(guestAddress).toString(16)}`}`;

function both(what: string, theirs: readonly string[], ours: readonly string[]): string[] {
  return [
    ...missing(theirs, ours).map((line) => `${what} ${line} only at the source`),
    ...missing(ours, theirs).map((line) => `${what} ${line} only here`),
  ];
}

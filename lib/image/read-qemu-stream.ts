import type { NativeMemory } from '../native/memory.ts';
import { DeviceStateCheck } from '../protocol/tail.ts';
import { imageError } from './errors.ts';
import { loadNative } from './load-native.ts';
import { checkImageOptions } from './option-schema.ts';
import type { ReadQemuStreamOptions } from './options.ts';
import { type QemuStreamFacts, QemuStreamImport, type QemuStreamTarget } from './qemu-stream-import.ts';
import { unwrapped } from './stream-container.ts';
import { StreamInput } from './stream-input.ts';

/**
 * Reads a plain QEMU stream (QMP `migrate`) into the caller's memory: `allocate` gives the blocks, `append` gets the device
 * state. It ends with the input; if it fails, an input that is a Readable is destroyed.
 * @throws MigrationError STREAM_ERROR: not a stream that can be read; STREAM_TRUNCATED: it ends too early or lacks pages; INVALID_ARGUMENT: `shared` does
 *   not match; CANCELLED, IO_ERROR; what the target throws.
 */
export async function readQemuStream(
  input: AsyncIterable<Uint8Array>,
  target: QemuStreamTarget,
  options: ReadQemuStreamOptions = {},
): Promise<QemuStreamFacts> {
  checkImageOptions('readStream', options);
  const action = 'reading a QEMU stream';
  const source = new StreamInput(input, options.signal, action);
  try {
    const stream = importer(target, await loadNative(), options.shared ?? []);
    for await (const chunk of unwrapped(source.chunks())) await stream.push(chunk);
    return stream.finish();
  } catch (error) {
    throw imageError(error, action);
  } finally {
    source.stop();
  }
}

function importer(
  target: QemuStreamTarget,
  native: NativeMemory,
  shared: readonly string[],
): QemuStreamImport {
  const check = new DeviceStateCheck();
  const checked: QemuStreamTarget = {
    allocate: (vm) => target.allocate(vm),
    append: (bytes) => {
      check.push(bytes);
      return target.append(bytes);
    },
  };
  const deviceState = () => check.result();
  return new QemuStreamImport(checked, native, { shared, acceptUnproven: false, deviceState });
}

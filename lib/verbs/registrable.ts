import { wrong } from './checks.ts';

/** What can be registered: a buffer, or a view of a part of one, such as a Buffer, a Uint8Array or a Float64Array. */
export type Registrable = ArrayBufferLike | ArrayBufferView;

/** @throws MigrationError INVALID_ARGUMENT (nothing, detached, or of a size that may change) */
export function bytesOf(memory: Registrable): Uint8Array {
  const bytes = viewOf(memory);
  if ((bytes.buffer as { resizable?: boolean }).resizable === true)
    throw wrong('memory of a fixed size', 'memory', 'a resizable ArrayBuffer');
  if (bytes.byteLength === 0) throw wrong('at least one byte, not detached', 'memory', 0);
  return bytes;
}

function viewOf(memory: Registrable): Uint8Array {
  if (ArrayBuffer.isView(memory)) return new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength);
  if (memory instanceof ArrayBuffer || memory instanceof SharedArrayBuffer) return new Uint8Array(memory);
  throw wrong('a buffer or a view of one', 'memory', memory);
}

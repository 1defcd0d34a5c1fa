import { wrong } from './checks.ts';

/** What can be registered: a buffer, or a view of a part of one, such as a Buffer, a Uint8Array or a Float64Array. */
export type Registrable = ArrayBufferLike | ArrayBufferView;

/** @throws MigrationError INVALID_ARGUMENT (nothing, detached, or of a size that may change) */
export function bytesOf(memory: Registrable): Uint8Array {
  const { buffer, byteOffset, byteLength } = ArrayBuffer.isView(memory) ? memory : whole(memory);
  if ((buffer as { resizable?: boolean }).resizable === true)
    throw wrong('memory of a fixed size', 'memory', 'a resizable ArrayBuffer');
  if (byteLength === 0) throw wrong('at least one byte, not detached', 'memory', byteLength);
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function whole(buffer: ArrayBufferLike): { buffer: ArrayBufferLike; byteOffset: number; byteLength: number } {
  if (!(buffer instanceof ArrayBuffer) && !(buffer instanceof SharedArrayBuffer))
    throw wrong('a buffer or a view of one', 'memory', buffer);
  return { buffer, byteOffset: 0, byteLength: buffer.byteLength };
}

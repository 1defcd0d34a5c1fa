/**
 * Keeps a registered ArrayBuffer where it is. A buffer that is detached hands its memory to another one, or to another thread, and whoever
 * owns it then may free it while a peer still writes there.
 */
import { markAsUntransferable } from 'node:worker_threads';
import { invalid } from '../options/check.ts';

type Detaching = 'transfer' | 'transferToFixedLength';
const DETACHING: readonly Detaching[] = ['transfer', 'transferToFixedLength'];

/** Regions of each buffer. */
const registered = new WeakMap<ArrayBuffer, number>();

/** Call {@link unpinBuffer} as often. A SharedArrayBuffer cannot be detached. */
export function pinBuffer(buffer: ArrayBufferLike): void {
  if (!(buffer instanceof ArrayBuffer)) return;
  const regions = registered.get(buffer) ?? 0;
  registered.set(buffer, regions + 1);
  if (regions > 0) return;
  // postMessage and structuredClone copy it from now on, or refuse (Node 21 and later).
  markAsUntransferable(buffer);
  for (const name of DETACHING) {
    if (name in ArrayBuffer.prototype)
      Reflect.defineProperty(buffer, name, { value: refuse, configurable: true });
  }
}

export function unpinBuffer(buffer: ArrayBufferLike): void {
  if (!(buffer instanceof ArrayBuffer)) return;
  const regions = (registered.get(buffer) ?? 1) - 1;
  registered.set(buffer, regions);
  if (regions > 0) return;
  registered.delete(buffer);
  for (const name of DETACHING) Reflect.deleteProperty(buffer, name);
}

function refuse(): never {
  throw invalid('this ArrayBuffer has a memory region: close the region before the buffer is transferred');
}

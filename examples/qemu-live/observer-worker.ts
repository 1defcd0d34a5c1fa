/**
 * Reads the guest's own count in the RAM files of both QEMUs, some thousand times a second, on its own thread. The guest counts
 * every page it writes, so its count stands still exactly while the guest does.
 */
import { openSync, readSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { STATE_ADDRESS } from '../guest/layout.ts';
import type { Observation, ObserverJob } from './observer.ts';

const STEPS_ADDRESS = STATE_ADDRESS + 8;
const PAUSE_MS = 0.2;
const LAST_LOOK_MS = 2_000;

const { source, destination, stop } = workerData as ObserverJob;
const flag = new Int32Array(stop);
const nothing = new Int32Array(new SharedArrayBuffer(4));
const word = Buffer.alloc(8);
const [here, there] = [openSync(source, 'r'), openSync(destination, 'r')];

/** `gap`: the time since the previous reading. */
interface Look {
  readonly at: number;
  readonly gap: number;
}

let last: Look & { readonly steps: bigint } = { steps: 0n, at: 0, gap: 0 };
let first: Look | undefined;
let told: number | undefined;

function steps(file: number): bigint {
  return readSync(file, word, 0, 8, STEPS_ADDRESS) === 8 ? word.readBigUInt64LE() : 0n;
}

/** It is told to end once the guest is known to go on there; that may show a moment later. */
function isOver(now: number): boolean {
  if (Atomics.load(flag, 0) === 0) return false;
  told ??= now;
  return first !== undefined || now - told > LAST_LOOK_MS;
}

/** Raises the priority of this thread alone. Without permission the gaps are longer. */
function hurry(): void {
  try {
    setPriority(0, constants.priority.PRIORITY_HIGHEST);
  } catch {}
}

hurry();
for (let before = performance.now(); !isOver(before); ) {
  const [at, now] = [steps(here), performance.now()];
  const gap = now - before;
  if (at !== last.steps) {
    last = { steps: at, at: now, gap };
    // Its count was newer because RAM was being sent: the guest runs here.
    first = undefined;
  }
  // Pages that are sent carry the count too; only a guest that runs there is beyond where it was here.
  if (steps(there) > last.steps) first ??= { at: performance.now(), gap };
  before = now;
  Atomics.wait(nothing, 0, 0, PAUSE_MS);
}
const observation: Observation =
  first === undefined ? {} : { downtimeMs: first.at - last.at, uncertaintyMs: Math.max(first.gap, last.gap) };
parentPort?.postMessage(observation);

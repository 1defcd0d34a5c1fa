/**
 * The guest: a thread that keeps rewriting its RAM, page after page, in parallel with everything else. It reaches the memory through
 * the kernel, as JavaScript must; for a dirty tracker that is a write like any other, except for write-protection before Linux 6.7, where
 * the kernel fails such a write with EIO (a store would wait).
 */
import { openSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { CONTROL, contentOf, type GuestMemory, PAGE, STATE } from './memory.ts';

const { address, pages, control, state } = workerData as GuestMemory;
const command = new Int32Array(control);
const progress = new BigInt64Array(state);
/** Writes between two checks of the throttle. */
const BATCH = 256;

const memory = openSync('/proc/self/mem', 'r+');

/** Reports that it is paused, and stays paused until it may run. */
function obey(): void {
  while (Atomics.load(command, CONTROL.wanted) === CONTROL.pause) {
    Atomics.store(command, CONTROL.standing, 1);
    Atomics.notify(command, CONTROL.standing);
    Atomics.wait(command, CONTROL.wanted, CONTROL.pause);
  }
  Atomics.store(command, CONTROL.standing, 0);
}

function writeNext(): void {
  const page = Number(progress[STATE.nextPage]);
  const pass = progress[STATE.pass] as bigint;
  writeSync(memory, contentOf(pass, page), 0, PAGE, Number(address + BigInt(page * PAGE)));
  if (page + 1 < pages) {
    progress[STATE.nextPage] = BigInt(page + 1);
  } else {
    progress[STATE.nextPage] = 0n;
    progress[STATE.pass] = pass + 1n;
  }
  progress[STATE.lastWrite] = process.hrtime.bigint();
}

/** The throttle: sleeps for the time that the guest is denied. */
function sleepFor(ms: number): void {
  if (ms > 0) Atomics.wait(command, CONTROL.wanted, CONTROL.run, ms);
}

for (;;) {
  obey();
  const began = performance.now();
  for (
    let written = 0;
    written < BATCH && Atomics.load(command, CONTROL.wanted) === CONTROL.run;
    written += 1
  )
    writeNext();
  const denied = Atomics.load(command, CONTROL.throttle) / 100;
  sleepFor(((performance.now() - began) * denied) / (1 - denied));
}

import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** Tests that start no process, open no socket and wait for no clock: any number of them at a time. */
const PURE = [
  'test/bench/{result,wire}.test.ts',
  'test/protocol/**/*.test.ts',
  'test/vm/**/*.test.ts',
  'test/cli/{arguments,doctor,doctor-trackers,exit-codes,program,reporter}.test.ts',
  'test/image/{manifest,reader,to-qemu,writer}.test.ts',
  'test/packaging/prebuild.test.ts',
  'test/memory/{classify,mapping,page-stream}.test.ts',
  'test/migration/{arrivals,bounds,convergence,destination-machine,event-queue,guest-control,pinning,pre-copy,reducer,source-pins}.test.ts',
  'test/ram/{hints,pin-window,range-set,spans}.test.ts',
];
/**
 * Tests with a guest that runs while it moves, that capture packets, count what a process holds, or pack the folder dist, which the demos make
 * again: they run alone.
 */
const ALONE = [
  'test/capture/**/*.test.ts',
  'test/examples/live.test.ts',
  'test/hostile/{leaks,threads,worker}.test.ts',
  'test/image/memory.test.ts',
  'test/migration/live*.test.ts',
  'test/qemu/live*.test.ts',
  'test/memory/lifetime.test.ts',
  'test/package/{contents,examples,install}.test.ts',
  'test/ram/trackers.test.ts',
];
/** Whole migrations over loopback, which wait more than they work. */
const BESIDE_EACH_OTHER = Math.max(2, Math.min(6, 2 * availableParallelism()));

// Examples import the package by its name, as users do; tests run them on the sources.
const source = (path: string): string => new URL(path, import.meta.url).pathname;
const resolve = {
  alias: [
    { find: /^rdma-migrate$/, replacement: source('lib/index.ts') },
    { find: /^rdma-migrate\/qemu$/, replacement: source('lib/qemu/index.ts') },
    { find: /^rdma-migrate\/verbs$/, replacement: source('lib/verbs/index.ts') },
  ],
};
// Tests that run concurrently wait for a peer that stays silent: they cost no time of a core.
const test = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  maxConcurrency: 20,
  expect: { poll: { timeout: 30_000 } },
};

export default defineConfig({
  test: {
    reporters: ['default', './test/support/slowest-reporter.ts'],
    projects: [
      {
        resolve,
        test: { ...test, name: 'pure', include: PURE, isolate: false, sequence: { groupOrder: 0 } },
      },
      {
        resolve,
        test: {
          ...test,
          name: 'process',
          include: ['test/**/*.test.ts'],
          exclude: [...PURE, ...ALONE],
          maxWorkers: BESIDE_EACH_OTHER,
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve,
        test: {
          ...test,
          name: 'alone',
          include: ALONE,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});

import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Examples import the package by its name, as users do; tests run them on the sources.
  resolve: { alias: { 'rdma-migrate': new URL('lib/index.ts', import.meta.url).pathname } },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Whole migrations move gigabytes: on a small machine two at once would only fight for the same cores.
    fileParallelism: false,
  },
});

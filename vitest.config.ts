import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Whole migrations move gigabytes: on a small machine two at once would only fight for the same cores.
    fileParallelism: false,
  },
});

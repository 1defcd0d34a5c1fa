/** Prints at the end of a run which tests took longest and, in a separate line, how many passed and failed. */
import type { Reporter, TestCase, TestModule } from 'vitest/node';

const SHOWN = 10;

export default class SlowestReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    this.#slowest(tests);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    // A file that cannot be loaded has no tests but counts as failed.
    const broken = modules.filter((module) => module.state() === 'failed' && module.children.size === 0);
    const failed = count('failed') + broken.length + errors.length;
    console.log(`${count('passed')} passed, ${failed} failed`);
  }

  #slowest(tests: readonly TestCase[]): void {
    const took = (test: TestCase) => test.diagnostic()?.duration ?? 0;
    const slowest = [...tests].sort((a, b) => took(b) - took(a)).slice(0, SHOWN);
    if (tests.length <= SHOWN) return;
    console.log(`\nThe ${SHOWN} slowest of ${tests.length} tests:`);
    for (const test of slowest)
      console.log(
        `${(took(test) / 1000).toFixed(1).padStart(7)} s  ${test.module.relativeModuleId}: ${test.fullName}`,
      );
  }
}

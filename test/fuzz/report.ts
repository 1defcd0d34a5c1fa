/** What a run of fuzzers has to say, as text. */
import type { Failure, Report } from './runner.ts';

/** The command that plays one case again. */
export function repeats({ name, seed }: Report, { case: index }: Failure): string {
  return `npm run fuzz -- --only ${name} --seed ${seed} ${index < 0 ? '' : `--case ${index}`}`.trim();
}

/** One line for a target. */
export function summary({ name, cases, frames, seconds, failures, grown }: Report): string {
  const units = frames === undefined ? '' : `, ${frames} frames`;
  const rate = Math.round((frames ?? cases) / Math.max(seconds, 0.001));
  const memory = grown === undefined ? '' : `, grown by ${Math.round(grown / 1024)} KiB`;
  const found = failures.length === 0 ? 'nothing found' : `${failures.length} FOUND`;
  return `${name}: ${cases} cases${units} in ${seconds.toFixed(1)} s (${rate}/s)${memory}: ${found}`;
}

/** A target's counters and findings. */
export function details(report: Report): string {
  const hits = Object.entries(report.hits).map(([what, count]) => `${String(count).padStart(12)}  ${what}`);
  const found = report.failures.map(
    (failure) => `FOUND ${repeats(report, failure)}\n      ${failure.message.replaceAll('\n', '\n      ')}`,
  );
  return [summary(report), ...hits, ...found].join('\n');
}

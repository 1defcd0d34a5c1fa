/** Measures the rows of a group in turn, so that whatever else the machine does meets all of them. */
import type { Status } from '../support/status.ts';
import type { Group, MeasuredGroup, Sample } from './sample.ts';

/**
 * `rounds` times each; one more before them warms up and does not count, unless it is the only one (0). Every other round goes backwards: what a
 * row leaves behind, such as memory that is warm, is not always found by the same one.
 */
export async function measure(
  group: Omit<Group, keyof AsyncDisposable>,
  rounds: number,
  status: Status,
): Promise<MeasuredGroup> {
  const { name, title, baseline, rows, notes } = group;
  const samples = rows.map((): Sample[] => []);
  for (let round = 0; round <= rounds; round++) {
    const order = [...rows.entries()];
    for (const [at, row] of round % 2 === 0 ? order : order.reverse()) {
      status.step(`${name}, ${round === 0 ? 'warming up' : `round ${round} of ${rounds}`}: ${row.label}`);
      const sample = await row.measure();
      if (round > 0 || rounds === 0) samples[at]?.push(sample);
    }
  }
  const measured = rows.map(({ id, label, kind, bytes }, at) => ({
    id,
    label,
    kind,
    bytes,
    samples: samples[at] ?? [],
  }));
  return { name, title, baseline, rows: measured, notes: [...notes] };
}

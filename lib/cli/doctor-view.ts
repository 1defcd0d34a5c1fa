import type { Check, DoctorReport } from '../doctor/index.ts';

const STATUS_WIDTH = 'missing'.length;

/** What doctor found as people read it: a line a check, and below what is not in order the way to mend it. */
export function doctorLines({ version, ready, checks }: DoctorReport): readonly string[] {
  const width = Math.max(0, ...checks.map(({ title }) => title.length));
  const verdict = ready
    ? `this machine can migrate over iWARP${provenDevices(checks)}`
    : 'this machine cannot migrate yet: mend what is missing and essential above';
  return [`rdma-migrate ${version}`, ...checks.flatMap((check) => checkLines(check, width)), verdict];
}

function provenDevices(checks: readonly Check[]): string {
  const names = checks.flatMap(({ name, status, details }) =>
    name === 'rdma-device' && status === 'ok' ? [String(details.device)] : [],
  );
  return names.length > 0 ? ` and through ${names.join(', ')}` : '';
}

function checkLines(
  { status, title, found, remedy, essential, notes = [] }: Check,
  width: number,
): readonly string[] {
  const indent = ' '.repeat(STATUS_WIDTH + 2);
  const line = `${status.padEnd(STATUS_WIDTH)}  ${title.padEnd(width)}  ${found}`;
  const lines = [line, ...notes.map((note) => `${indent}${' '.repeat(width + 2)}${note}`)];
  if (status === 'ok' || remedy === undefined) return lines;
  return [...lines, `${indent}${essential ? 'essential: ' : ''}${remedy}`];
}

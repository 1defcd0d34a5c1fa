import { type DoctorReport, runDoctor } from '../doctor/index.ts';
import { doctorLines } from './doctor-view.ts';
import { EXIT } from './exit-codes.ts';
import { printable } from './format.ts';
import { toJson } from './json-reporter.ts';
import type { OutputOptions } from './output.ts';
import type { CommandContext } from './run.ts';

/** `rdma-migrate doctor`. What it prints is its result: --quiet leaves out what is in order. */
export async function doctor({ signal }: CommandContext, { json, quiet }: OutputOptions): Promise<void> {
  const report = await runDoctor({ signal });
  const lines = json ? [toJson(report)] : shown(report, quiet ?? false);
  for (const line of lines) process.stdout.write(`${line}\n`);
  if (!report.ready) process.exitCode = EXIT.host;
}

function shown(report: DoctorReport, quiet: boolean): readonly string[] {
  const checks = quiet ? report.checks.filter(({ status }) => status !== 'ok') : report.checks;
  return doctorLines({ ...report, checks }).map(printable);
}

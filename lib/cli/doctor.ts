import { type DoctorReport, runDoctor } from '../doctor/index.ts';
import { toJson } from '../json.ts';
import { invalid } from '../options/check.ts';
import { doctorLines } from './doctor-view.ts';
import { EXIT } from './exit-codes.ts';
import { printable } from './format.ts';
import type { DoctorOptions } from './program.ts';
import type { CommandContext } from './run.ts';

/** `rdma-migrate doctor`. What it prints is its result: --quiet leaves out what is in order. */
export async function doctor({ signal }: CommandContext, options: DoctorOptions): Promise<void> {
  const { json, quiet, tlsCreds, tlsHostname } = options;
  if (tlsHostname !== undefined && tlsCreds === undefined)
    throw invalid('--tls-hostname says whom a certificate has to name: add --tls-creds DIR');
  const hostname = tlsHostname === undefined ? {} : { hostname: tlsHostname };
  const tls = tlsCreds === undefined ? undefined : { creds: tlsCreds, ...hostname };
  const report = await runDoctor({ signal, ...(tls && { tls }) });
  const lines = json ? [toJson(report)] : shown(report, quiet ?? false);
  for (const line of lines) process.stdout.write(`${line}\n`);
  if (!report.ready) process.exitCode = EXIT.host;
}

function shown(report: DoctorReport, quiet: boolean): readonly string[] {
  const checks = quiet ? report.checks.filter(({ status }) => status !== 'ok') : report.checks;
  return doctorLines({ ...report, checks }).map(printable);
}

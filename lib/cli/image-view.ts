/** Images and conversions as people read them. */
import type { BlockInspection, ImageInspection, ImageProgress, SentMark } from '../image/index.ts';
import { formatBytes } from './format.ts';
import type { BarState, Reporter } from './reporter.ts';

/** Milliseconds between two reports of a phase. */
const REPORT_MS = 500;

/** Reports a conversion's progress twice a second and at each phase; the rate is the mean since the beginning. */
export function imageProgress(
  reporter: Reporter,
  now: () => number = () => performance.now(),
): (progress: ImageProgress) => void {
  const started = now();
  let phase: ImageProgress['phase'] | undefined;
  let reported = started;
  return (progress) => {
    const time = now();
    const news = progress.phase !== phase;
    if (!news && time - reported < REPORT_MS) return;
    if (news) reporter.phase(progress.phase);
    phase = progress.phase;
    reported = time;
    if (progress.total > 0n) reporter.progress(progress, imageBar(progress, (time - started) / 1000));
  };
}

export function imageBar({ phase, done, total }: ImageProgress, seconds: number): BarState {
  const bytesPerSecond = seconds > 0 ? Number(done) / seconds : 0;
  const left = Number(total - done) / bytesPerSecond;
  return {
    phase,
    done: Number(done),
    total: Number(total),
    bytesPerSecond,
    secondsLeft: Number.isFinite(left) ? left : undefined,
  };
}

const COVERAGE = { 'with-gaps': 'with gaps', unknown: 'perhaps with gaps' } as const;

export function inspectionLines(image: ImageInspection): readonly string[] {
  const { provenance, devices } = image;
  const from = provenance.peer === undefined ? '' : ` from ${provenance.peer}`;
  const by = provenance.provider === undefined ? '' : ` over ${provenance.provider}`;
  const coverage = provenance.coverage === undefined ? '' : `, RAM ${COVERAGE[provenance.coverage]}`;
  return [
    `image         ${image.path}`,
    `machine       ${image.machine}, pages of ${image.pageSize} bytes`,
    `made          ${image.created} by ${image.tool}`,
    `origin        ${provenance.origin}${from}${by}, completeness: ${provenance.completeness}${coverage}`,
    ...(provenance.migrationId === undefined ? [] : [`migration     ${provenance.migrationId}`]),
    ...(image.sent === undefined ? [] : [sentLine(image.sent)]),
    `RAM           ${formatBytes(image.ramBytes)}, ${formatBytes(image.allocatedBytes)} on disk`,
    ...image.blocks.map(blockLine),
    `device state  ${formatBytes(image.deviceStateBytes)}, ${devices === undefined ? 'without a description' : `${devices.length} devices`}`,
    ...(devices ?? []).map(({ name, instanceId }) => `  ${name} (instance ${instanceId})`),
  ];
}

const SENT: Readonly<Record<SentMark['state'], string>> = {
  committed: 'and confirmed there: the VM is no longer this image',
  unconfirmed: 'to a version 1 destination, which confirms nothing: look there',
  unknown: 'and it is not known whether the destination has the VM: look there',
};

function sentLine(sent: NonNullable<ImageInspection['sent']>): string {
  if ('problem' in sent) return `SENT          perhaps: ${sent.problem}`;
  return `SENT          ${sent.at} to ${sent.to}, migration ${sent.migrationId}, ${SENT[sent.state]}`;
}

function blockLine(block: BlockInspection): string {
  const disk = block.allocated === undefined ? '' : `, ${formatBytes(block.allocated)} on disk`;
  const problem = block.problem === undefined ? '' : `  UNUSABLE: ${block.problem}`;
  const unseen = block.allocated === undefined && block.problem === undefined;
  const named = unseen ? `  outside, not looked at: --ram-file ${block.name}=PATH` : '';
  return `  ${block.name}: ${formatBytes(block.length)}${disk}, ${block.file}${problem}${named}`;
}

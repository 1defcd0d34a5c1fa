/** Whether a source has accounted for every page of its VM, as far as that is known. */
import { type ErrorDetails, MigrationError, type Phase } from '../errors.ts';

/** Why a source may leave out pages that hold nothing. */
export type GapCause = 'free-page-hint' | 'virtio-mem' | 'sparse';

/** Plain data. */
export interface Coverage {
  /**
   * `whole`: every page of every block came, with content or as zeros. `with-gaps`: some did not, and `reason` says why they need
   * not. `unknown`: this end cannot tell, and `reason` says why.
   */
  readonly state: 'whole' | 'with-gaps' | 'unknown';
  /** Bytes of RAM that the source left out, as far as that is known. They are zeros here. */
  readonly missing: number;
  readonly reason?: string;
}

/** A block of which not every page came. */
export interface MissingPages {
  readonly name: string;
  readonly pages: bigint;
  /** Pages of the whole block. */
  readonly of: bigint;
  /** Offset in bytes of the first missing page. */
  readonly first: bigint;
}

export const WHOLE: Coverage = { state: 'whole', missing: 0 };

const REASON: Readonly<Record<GapCause, string>> = {
  'free-page-hint': 'the guest has told QEMU which pages are free (free-page-hint of virtio-balloon)',
  'virtio-mem': 'the VM has a virtio-mem device, and what is not plugged is not sent',
  sparse: 'a source of ours does not send the zeros of fresh RAM',
};

export function withGaps(bytes: bigint, causes: readonly GapCause[]): Coverage {
  const reason = causes.map((cause) => REASON[cause]).join('; ');
  return { state: 'with-gaps', missing: Number(bytes), reason };
}

export function unknownCoverage(reason: string): Coverage {
  return { state: 'unknown', missing: 0, reason };
}

/** `what` begins the message: what ended without the pages. `advice` ends it. */
export function missingPagesError(
  phase: Phase,
  what: string,
  missing: readonly MissingPages[],
  advice: string,
): MigrationError {
  const [worst] = [...missing].sort((a, b) => (a.pages < b.pages ? 1 : -1));
  const others =
    missing.length > 1
      ? `, and pages of ${missing.length - 1} other block${missing.length > 2 ? 's' : ''}`
      : '';
  const message =
    `${what} did not account for ${worst?.pages} of the ${worst?.of} pages of RAM block ${worst?.name} (the first at byte ` +
    `${worst?.first})${others}: the VM is not whole. ${advice}`;
  return new MigrationError('STREAM_TRUNCATED', phase, message, { details: detailsOf(missing) });
}

function detailsOf(missing: readonly MissingPages[]): ErrorDetails {
  const pages = missing.reduce((sum, block) => sum + block.pages, 0n);
  return { missingPages: pages, blocks: missing.map(({ name }) => name).join(', ') };
}

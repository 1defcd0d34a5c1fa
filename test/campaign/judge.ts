/** Whether what the ends reported of a case is true. Pure. */
import type { Case } from './case.ts';
import type { Said } from './command.ts';

/** What is at the destination when both ends are over. */
export interface There {
  /** `whole`: all that the source has, and under its final name. */
  readonly image: 'none' | 'whole' | 'different';
  /** Something was begun and is still there. */
  readonly partial: boolean;
  /** The image that was sent is unchanged. */
  readonly sourceUntouched: boolean;
}

export interface Verdict {
  readonly lies: readonly string[];
  /** What is true, but worth counting. */
  readonly counted: readonly string[];
}

const REFUSES_WITHOUT_A_WORD = 8;

/** `undefined`: that end is a script, which says nothing. */
export function judge(
  it: Case,
  source: Said | undefined,
  destination: Said | undefined,
  there: There,
): Verdict {
  const lies: string[] = [];
  const counted: string[] = [];
  const damage = (it.fault.kind === 'flipped' || it.fault.kind === 'lost') && !it.crc && !it.verify;
  for (const [who, said] of [
    ['source', source],
    ['destination', destination],
  ] as const) {
    if (said) lies.push(...misbehaviour(who, said, it));
  }
  if (!there.sourceUntouched) lies.push('the image at the source has changed');
  if (there.image === 'different') {
    if (damage) counted.push('damaged on the wire, with CRC and verify off');
    else lies.push('an image is there that is not what was sent');
  }
  if (source) judgeSource(it, source, there, lies, counted);
  if (destination) judgeDestination(destination, there, lies, counted);
  return { lies, counted };
}

function misbehaviour(who: string, said: Said, it: Case): string[] {
  if (said.hung) return [`the ${who} hangs`];
  if (said.exit === 1) return [`the ${who} has a bug: ${said.message}`];
  const { fault } = it;
  const killed = fault.kind === 'SIGKILL' && fault.end === who;
  if (said.signal !== null && !(killed && said.signal === 'SIGKILL'))
    return [`the ${who} died of ${said.signal}`];
  return [];
}

function judgeSource(it: Case, said: Said, there: There, lies: string[], counted: string[]): void {
  if (said.exit === null) return;
  const kept = there.image !== 'none';
  if (said.exit === 0 && said.outcome === 'committed') {
    if (!kept) lies.push('the source says committed, and nothing is there');
  } else if (said.exit === 0) {
    if (!kept && mayEndInOrder(it)) counted.push('unconfirmed, as it says, and nothing is there');
    else if (!kept)
      lies.push('the source says unconfirmed after an end that was not orderly; nothing is there');
  } else if (said.exit === REFUSES_WITHOUT_A_WORD) {
    counted.push(`COMMIT_UNKNOWN at the source, ${kept ? 'and it is there' : 'and it is not there'}`);
    if (it.fault.kind === 'none') lies.push('COMMIT_UNKNOWN on a healthy link');
  } else if (kept) {
    lies.push(`the source says ${said.code} and goes on, and the VM is at the destination: two owners`);
  }
}

/** A destination that is killed or stopped, or a proxy that closes: the kernel ends the connection as if all were well. */
function mayEndInOrder({ fault }: Case): boolean {
  if (fault.kind === 'half-close') return true;
  return 'end' in fault && fault.end === 'destination';
}

function judgeDestination(said: Said, there: There, lies: string[], counted: string[]): void {
  if (said.exit === null) return;
  const kept = there.image !== 'none';
  if (said.exit === 0) {
    if (!kept) lies.push('the destination says completed, and nothing is there');
  } else if (said.exit === REFUSES_WITHOUT_A_WORD) {
    counted.push(`COMMIT_UNKNOWN at the destination, ${kept ? 'and it is there' : 'and it is not there'}`);
  } else {
    if (kept) lies.push(`the destination says ${said.code}, and the VM is there`);
    if (there.partial) lies.push(`the destination says ${said.code}, and left something`);
  }
}

/** What one case is: who migrates to whom and how, and what goes wrong. The seed decides all of it. */
import { Random } from './random.ts';

export type End = 'source' | 'destination';

export type Fault =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'cut' | 'half-close' | 'stall' | 'lost' | 'flipped';
      readonly towards: End;
      /** A position in the bytes that go that way: a share, or a number before the last one. */
      readonly at: { readonly share: number } | { readonly beforeEnd: number };
    }
  | {
      readonly kind: 'SIGKILL' | 'SIGSTOP' | 'SIGINT' | 'SIGTERM';
      readonly end: End;
      readonly phase: string;
      /** Milliseconds after the phase has begun. */
      readonly after: number;
      /** SIGSTOP: milliseconds until SIGCONT. */
      readonly lasting: number;
    }
  | {
      readonly kind: 'scripted';
      readonly deed: 'reset' | 'end' | 'silence' | 'terminate' | 'noise' | 'ERROR';
      /** Which message, from 0; past the last one the peer is honest. */
      readonly message: number;
    };

export interface Case {
  readonly seed: number;
  readonly pair: 'ours' | 'version 1 source' | 'version 1 destination';
  readonly commit: boolean;
  readonly crc: boolean;
  readonly verify: boolean;
  readonly pinAll: boolean;
  /** Bytes per second, so that there is a middle to fail in; 0 for no limit. */
  readonly bandwidth: number;
  readonly fault: Fault;
}

const WIRE = ['cut', 'half-close', 'stall', 'lost', 'flipped'] as const;
const SIGNALS = ['SIGKILL', 'SIGSTOP', 'SIGINT', 'SIGTERM'] as const;
const DEEDS = ['reset', 'end', 'silence', 'terminate', 'noise', 'ERROR'] as const;
/** Messages of the scripted peers for the small VM, and one that never comes. */
const MESSAGES = 16;

export function caseOf(seed: number): Case {
  const random = new Random(seed);
  const kind = random.next();
  const pair = kind < 0.7 ? 'ours' : kind < 0.85 ? 'version 1 source' : 'version 1 destination';
  const commit = pair === 'ours' && random.chance(0.6);
  return {
    seed,
    pair,
    commit,
    crc: random.chance(0.4),
    verify: commit && random.chance(0.3),
    pinAll: pair !== 'version 1 source' && random.chance(0.4),
    bandwidth: random.chance(0.5) ? 32 << 20 : 0,
    fault: pair === 'ours' ? faultOf(random, commit) : scripted(random),
  };
}

function scripted(random: Random): Fault {
  return { kind: 'scripted', deed: random.pick(DEEDS), message: random.below(MESSAGES + 4) };
}

function faultOf(random: Random, commit: boolean): Fault {
  const kind = random.next();
  if (kind < 0.05) return { kind: 'none' };
  const end = random.pick(['source', 'destination'] as const);
  if (kind < 0.55) {
    const near = random.chance(0.5);
    const at = near ? { beforeEnd: random.below(400) } : { share: random.next() };
    return { kind: random.pick(WIRE), towards: end, at };
  }
  return {
    kind: random.pick(SIGNALS),
    end,
    phase: phaseOf(random, commit, end),
    after: random.chance(0.5) ? random.below(6) : random.below(150),
    lasting: 100 + random.below(2500),
  };
}

/** Half of the time the last one, which decides who has the VM. */
function phaseOf(random: Random, commit: boolean, end: End): string {
  const last = commit || end === 'destination' ? 'commit' : 'device-state';
  if (random.chance(0.5)) return last;
  return random.pick(['negotiate', 'setup', 'ram', 'ram', 'device-state']);
}

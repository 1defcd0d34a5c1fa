/** What control messages cost the passes over RAM, where a wait for one may keep WRITEs waiting. */
import type { TurnCosts } from '../../transport/turns.ts';
import type { ControlCosts } from '../result.ts';

export type PassesCosts = Omit<ControlCosts, 'messages'>;

export const NO_PASSES: PassesCosts = { 'ready-wait': 0, 'key-wait': 0, idle: 0 };

/** With one more pass, from its first look at RAM to the completion of its last WRITE. `idleMs`: of it, without a WRITE under way. */
export function addPass(sum: PassesCosts, before: TurnCosts, after: TurnCosts, idleMs: number): PassesCosts {
  return {
    'ready-wait': sum['ready-wait'] + after.readyMs - before.readyMs,
    'key-wait': sum['key-wait'] + after.keyMs - before.keyMs,
    idle: sum.idle + idleMs,
  };
}

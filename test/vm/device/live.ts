/** A guest that runs and writes while it moves between processes on the device; `examples/embed/live` checks every page after each move. */
import { fileURLToPath } from 'node:url';
import { GUEST_ADDRESS } from '../job.ts';
import { expectText } from './doctor.ts';
import { run } from './pair.ts';

const MAIN = fileURLToPath(new URL('../../../examples/embed/live/main.js', import.meta.url));

/** By `hash`, which pins only its copies: the VM's kernel does not let this guest's writes wait for `write-protect`. */
export async function liveMoves(moves: number, ...options: readonly string[]): Promise<string> {
  const where = ['--provider', 'verbs', '--address', GUEST_ADDRESS];
  const how = ['--moves', String(moves), '--mebibytes', '16', '--tracker', 'hash'];
  const said = await run(process.execPath, MAIN, ...where, ...how, ...options);
  const summary = said.trim().split('\n').at(-1) ?? '';
  expectText(
    summary,
    new RegExp(
      `^${moves} moves, 0 attempts cancelled, 0 broken by a killed destination, no page lost or torn`,
    ),
  );
  return summary;
}

/**
 * Moves a running guest from one stock QEMU into another with rdma-migrate qemu move and qemu receive, once or many times, and checks all of
 * it. `npm run demo:live` starts it. Exit code: 0 everything was verified; 1 it was not; 2 the options are wrong; 130, 143 interrupted.
 */
import { MigrationError } from 'rdma-migrate';
import { runDemo } from '../demo/command.ts';
import { bytes, type Narrator } from '../demo/narrator.ts';
import { openWorkspace } from '../demo/workspace.ts';
import { qemuMissing } from '../qemu/qemu.ts';
import { type LiveDemoOptions, parseOptions, USAGE } from './options.ts';
import { Summary, tellMoved, turnJson, turnLine } from './report.ts';
import { soak, type Turn } from './soak.ts';

async function run(options: LiveDemoOptions, narrator: Narrator, signal: AbortSignal): Promise<string> {
  const missing = qemuMissing(options.executable);
  if (missing !== undefined) throw new MigrationError('IO_ERROR', 'configure', missing);
  await using workspace = await openWorkspace(options.ramBytes);
  const summary = new Summary();
  narrator.step(
    `Start a stock QEMU (software emulation, ${bytes(options.ramBytes)} of RAM in shared files) and let its guest run`,
  );
  const tally = await soak(
    options,
    { folder: workspace.path, signal },
    {
      onStart: ({ pid }) => announce(narrator, options, pid),
      onPage: (url) => narrator.say(`its page: ${url}`),
      onTurn: (turn) => {
        summary.add(turn);
        tell(narrator, options, turn);
      },
    },
  );
  for (const line of summary.lines(tally)) narrator.say(line);
  return 'every page of the guest is right, and it runs on';
}

function announce(narrator: Narrator, { regionBytes, repeat, chaos, seed }: LiveDemoOptions, pid = 0): void {
  narrator.say(
    `process ${pid}; the guest keeps rewriting ${bytes(regionBytes)} and counts on its serial port`,
  );
  const times = repeat === 1 ? 'once' : `${repeat} times, each time into a new QEMU`;
  narrator.step(
    `Migrate the running guest, ${times}${chaos ? `, half of them disturbed (--seed ${seed})` : ''}`,
  );
}

function tell(narrator: Narrator, { json, repeat }: LiveDemoOptions, turn: Turn): void {
  if (json) process.stdout.write(`${turnJson(turn)}\n`);
  if (repeat > 1 || !turn.ending.moved) narrator.say(turnLine(turn));
  else tellMoved(narrator, turn.ending);
}

await runDemo({
  usage: USAGE,
  parseOptions,
  output: ({ json }: LiveDemoOptions) => (json ? process.stderr : process.stdout),
  run,
});

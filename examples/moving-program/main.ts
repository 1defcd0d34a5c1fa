/**
 * Two programs talk over RDMA, and one of them moves meanwhile, with its memory and its connections:
 *
 *     npm run demo:program -- --verb send --from both --iterations 100000 --moves 3
 *     npm run demo:program -- --verb write --size 2097152 --queue-pairs 16 --depth 2 --svg timeline.svg
 *
 * Exits with 1 if a message was lost, came twice or out of order, or had other contents; or if the programs did not come to their end.
 */
import { writeFile } from 'node:fs/promises';
import { type Journey, type Moved, travel } from './journey.ts';
import { type Options, readOptions } from './options.ts';
import { draw, longestGap, pointsOf } from './timeline.ts';

const ms = (value: number): string => `${value.toFixed(1)} ms`;

function tellMove({ programMs, peersMs, drainMs, rounds }: Moved, index: number): void {
  console.log(
    `move ${index + 1}: the program stood still for ${ms(programMs)}, its connections for ${ms(programMs + peersMs)} ` +
      `(drain and freeze ${ms(drainMs)}); ${rounds} passes over its memory`,
  );
}

function verdict({ partner, program }: Journey): string | undefined {
  const faults = partner.faults + program.faults;
  if (faults > 0) return `${faults} messages were wrong, lost, or came twice`;
  return undefined;
}

function report(journey: Journey, options: Options): void {
  const { partner, program, moves } = journey;
  const gap = longestGap(journey);
  if (options.json) {
    const timeline = pointsOf(journey).map(({ ms: at, bytesPerSecond }) => [
      Math.round(at),
      Math.round(bytesPerSecond),
    ]);
    console.log(JSON.stringify({ traffic: options.traffic, moves, gap, partner, program, timeline }));
    return;
  }
  console.log(
    `program: ${program.done} messages done, ${program.received} received; partner: ${partner.done} done, ` +
      `${partner.received} received; ${moves.length} moves, the partner's longest gap ${ms(gap)}`,
  );
  console.log(verdict(journey) ?? 'VERIFIED: every message came once, in order, with its contents');
}

async function run(options: Options): Promise<void> {
  const journey = await travel(options, options.json ? () => {} : tellMove);
  report(journey, options);
  if (options.svg !== undefined) await writeFile(options.svg, draw(journey, options));
  if (verdict(journey) !== undefined) process.exitCode = 1;
}

const options = readOptions(process.argv.slice(2));
if (options !== undefined) {
  await run(options).catch((error: unknown) => {
    console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  });
}

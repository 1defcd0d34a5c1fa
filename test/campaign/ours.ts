/** A case between two ends of ours: two processes, with a proxy between them. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Case, End, Fault } from './case.ts';
import { Command, type Said } from './command.ts';
import { type Harm, HarmingProxy } from './proxy.ts';
import type { Scene } from './scene.ts';

const DEADLINE_MS = 40_000;
const LIMITS = ['--provider', 'iwarp', '--response-timeout', '3', '--commit-timeout', '5'];

export interface Played {
  readonly source?: Said;
  readonly destination?: Said;
  readonly folder: string;
  /** What was done, and in which phases the ends then were; empty: the fault did not happen. */
  readonly struck: readonly string[];
}

/** How many bytes go each way in a case without a fault; the fault's position is a share of that. */
export type Volume = Readonly<Record<End, number>>;

interface Ends {
  readonly source: Command;
  readonly destination: Command;
}

export async function playOurs(scene: Scene, it: Case, volume: Volume): Promise<Played & { passed: Volume }> {
  const folder = await scene.folder();
  const struck: string[] = [];
  const shared = [...LIMITS, '--commit', it.commit ? 'require' : 'off', ...(it.crc ? ['--crc'] : [])];
  const target = ['receive', 'rdma:127.0.0.1:0', '--image', join(folder, 'vm'), '--timeout', '20', ...shared];
  const destination = new Command(target, DEADLINE_MS);
  await using proxy = await HarmingProxy.open((await destination.port()) ?? 1, harmOf(it.fault, volume));
  const source = new Command(sending(scene, it, proxy.port, shared), DEADLINE_MS);
  const ends = { source, destination };
  const note = (what: string): void => void struck.push(...moment(what, ends));
  proxy.onStrike = () => note(`${it.fault.kind} towards ${'towards' in it.fault ? it.fault.towards : ''}`);
  arm(it.fault, ends, note);
  const said = await endOf(ends);
  return { ...said, folder, struck, passed: { ...proxy.passed } };
}

function sending(scene: Scene, it: Case, port: number, shared: readonly string[]): string[] {
  const { pinAll, verify, bandwidth } = it;
  return [
    ...['send', '--again', scene.image, `rdma:127.0.0.1:${port}`, ...shared],
    ...(pinAll ? ['--pin-all'] : []),
    ...(verify ? ['--verify'] : []),
    ...(bandwidth > 0 ? ['--max-bandwidth', String(bandwidth)] : []),
  ];
}

function harmOf(fault: Fault, volume: Volume): Harm | undefined {
  if (!('towards' in fault)) return undefined;
  const { kind, towards, at } = fault;
  const all = volume[towards];
  return {
    kind,
    towards,
    at: 'share' in at ? Math.floor(at.share * all) : Math.max(0, all - 1 - at.beforeEnd),
  };
}

/** Sends the signal at its moment. */
function arm(fault: Fault, ends: Ends, note: (what: string) => void): void {
  if (!('phase' in fault)) return;
  const { kind, end, phase, after, lasting } = fault;
  const command = ends[end];
  command.onPhase = (name) => {
    if (name !== phase) return;
    command.onPhase = () => {};
    void delay(after).then(async () => {
      if (command.over) return;
      note(`${kind} of the ${end}`);
      command.kill(kind);
      if (kind !== 'SIGSTOP') return;
      await delay(lasting);
      command.kill('SIGCONT');
    });
  };
}

function moment(what: string, { source, destination }: Ends): string[] {
  const where = (command: Command): string => (command.over ? 'over' : command.phase || 'start');
  const [at, there] = [where(source), where(destination)];
  const deciding = at === 'commit' || there === 'commit';
  return [
    `${what}, the source in ${at}`,
    `${what}, the destination in ${there}`,
    ...(deciding ? [`IN THE COMMIT WINDOW: ${what}`] : []),
  ];
}

/** Waits for both. A destination to which no source came is told to end. */
async function endOf({ source, destination }: Ends): Promise<{ source: Said; destination: Said }> {
  const sent = await source.ended;
  await Promise.race([destination.ended, delay(300)]);
  if (!destination.over && ['', 'listen'].includes(destination.phase)) destination.kill('SIGTERM');
  return { source: sent, destination: await destination.ended };
}

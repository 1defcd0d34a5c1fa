/** `ib_write_bw` of perftest, both ends in the VM: what the device does when nothing but WRITEs are asked of it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { GUEST_ADDRESS } from '../job.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 120_000;

export interface WriteTest {
  /** `siw0` */
  readonly device: string;
  readonly port: number;
  readonly bytes: number;
  readonly messageBytes: number;
  /** WRITEs under way at one time. */
  readonly depth: number;
}

function args({ device, port, bytes, messageBytes, depth }: WriteTest): string[] {
  const messages = Math.max(Math.round(bytes / messageBytes), depth);
  const sizes = ['-s', String(messageBytes), '-n', String(messages), '-t', String(depth), '-Q', '1'];
  return ['-d', device, '-R', '-p', String(port), ...sizes, '-F', '--report_gbits'];
}

/** The line of figures: bytes, messages, most and mean Gb/s, messages a second. @throws when there is none */
export function bandwidthOf(output: string, messageBytes: number): number {
  const line = output.split('\n').find((text) => text.trim().startsWith(`${messageBytes} `));
  const mean = Number(line?.trim().split(/\s+/)[3]);
  if (!(mean > 0)) throw new Error(`ib_write_bw printed no figures:\n${output}`);
  return (mean * 1e9) / 8;
}

/** @returns bytes per second */
export async function writeBandwidth(test: WriteTest): Promise<number> {
  const server = spawn('stdbuf', ['-oL', 'ib_write_bw', ...args(test)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: TIMEOUT_MS,
  });
  const ended = once(server, 'close');
  try {
    for await (const line of createInterface({ input: server.stdout }))
      if (line.includes('Waiting for client')) break;
    server.stdout.resume();
    const { stdout } = await run('ib_write_bw', [...args(test), GUEST_ADDRESS], { timeout: TIMEOUT_MS });
    return bandwidthOf(stdout, test.messageBytes);
  } finally {
    server.kill('SIGKILL');
    await ended;
  }
}

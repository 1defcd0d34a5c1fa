/** `ib_write_bw` of perftest, both ends in the VM: what the device does when nothing but WRITEs are asked of it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { GUEST_ADDRESS } from '../job.ts';

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

const messages = ({ bytes, messageBytes, depth }: WriteTest): number =>
  Math.max(Math.round(bytes / messageBytes), depth);

function args(test: WriteTest): string[] {
  const { device, port, messageBytes, depth } = test;
  const sizes = ['-s', String(messageBytes), '-n', String(messages(test)), '-t', String(depth), '-Q', '1'];
  return ['-d', device, '-R', '-p', String(port), ...sizes, '-F', '--report_gbits'];
}

const isHead = (line: string): boolean => line.trim().startsWith('#bytes');
const isEnd = (line: string, { messageBytes }: WriteTest): boolean =>
  line.trim().startsWith(`${messageBytes} `);

/**
 * Seconds between the head of the figures, which is printed just before the first WRITE is posted, and the figures. Those themselves come
 * from the processor's cycle counter and what it is said to run at, which an emulated machine does not keep to: at times they are 0.
 *
 * @throws when there is no such line
 */
export async function secondsBetween(
  lines: AsyncIterable<string>,
  test: WriteTest,
  now = () => performance.now(),
): Promise<number> {
  let began: number | undefined;
  const said: string[] = [];
  for await (const line of lines) {
    said.push(line);
    if (isHead(line)) began = now();
    else if (began !== undefined && isEnd(line, test)) return (now() - began) / 1000;
  }
  throw new Error(`ib_write_bw printed no figures:\n${said.join('\n')}`);
}

const start = (words: readonly string[]): ChildProcessByStdio<null, Readable, null> =>
  spawn('stdbuf', ['-oL', 'ib_write_bw', ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: TIMEOUT_MS,
  });

/** @returns bytes per second */
export async function writeBandwidth(test: WriteTest): Promise<number> {
  const server = start(args(test));
  const ended = [once(server, 'close')];
  let client: typeof server | undefined;
  try {
    for await (const line of createInterface({ input: server.stdout }))
      if (line.includes('Waiting for client')) break;
    server.stdout.resume();
    client = start([...args(test), GUEST_ADDRESS]);
    ended.push(once(client, 'close'));
    const seconds = await secondsBetween(createInterface({ input: client.stdout }), test);
    return (messages(test) * test.messageBytes) / seconds;
  } finally {
    for (const process of [server, client]) process?.kill('SIGKILL');
    await Promise.all(ended);
  }
}

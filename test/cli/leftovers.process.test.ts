/** What killed commands leave, who names it, and who clears it away. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCommand, type CommandFolder, eventsOf } from './command.ts';

let command: CommandFolder;
let stream: Buffer;

beforeAll(async () => {
  command = await buildCommand();
  stream = gunzipSync(await readFile(new URL('../fixtures/qemu/plain.stream.gz', import.meta.url)));
});
afterAll(() => command[Symbol.asyncDispose]());

const folder = (): Promise<string> => mkdtemp(join(command.work, 'case-'));

/** Leaves what a `receive` leaves that is killed while it waits. */
async function killedReceive(at: string, name: string): Promise<string> {
  const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, name));
  await receiver.waitForOutput(/listening at/);
  receiver.kill('SIGKILL');
  await receiver.ended;
  const left = (await readdir(at)).find((entry) => entry.startsWith(`.${name}.partial-`));
  if (left === undefined) throw new Error('nothing was left');
  return join(at, left);
}

describe('SIGHUP', () => {
  it('cancels as SIGTERM does, also when the kernel and the shell both send it: 129, and nothing is kept', async () => {
    const at = await folder();
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'));
    await receiver.waitForOutput(/listening at/);
    receiver.kill('SIGHUP');
    receiver.kill('SIGHUP');
    const { code, signal, stderr } = await receiver.ended;
    expect([code, signal, stderr]).toEqual([
      129,
      null,
      expect.stringMatching(/SIGHUP: cancelling.*\n.*\(CANCELLED, phase listen\)\n/),
    ]);
    expect(await readdir(at)).toEqual([]);
  });

  const main = (): string => join(command.work, '../dist/cli/main.js');

  /** Sends SIGHUP and then SIGTERM to a receive: which one it dies of. */
  async function outcome(child: ChildProcess, pid: () => Promise<number>): Promise<string> {
    let said = '';
    child.stdout?.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    child.stderr?.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    const closed = once(child, 'close');
    await expect.poll(() => said, { timeout: 30_000 }).toContain('listening at');
    process.kill(await pid(), 'SIGHUP');
    // Signals of different kinds may overtake each other.
    const count = async () =>
      (await readFile(`/proc/${await pid()}/status`, 'utf8')).match(/ShdPnd:\s*(\w+)/)?.[1];
    await expect.poll(count).toBe('0000000000000000');
    await promisify(setTimeout)(200);
    process.kill(await pid(), 'SIGTERM');
    await closed;
    return said;
  }

  it('means nothing to a command that nohup started at a terminal', async () => {
    const at = await folder();
    await using stdin = await open('/dev/null', 'w');
    const child = spawn(
      process.execPath,
      [main(), 'receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm')],
      {
        stdio: [stdin.fd, 'pipe', 'pipe'],
      },
    );
    const said = await outcome(child, async () => child.pid ?? 0);
    expect(said).toContain('SIGTERM: cancelling');
    expect(said).not.toContain('SIGHUP');
    expect(await readdir(at)).toEqual([]);
  });

  it('means nothing to a command of a script that ignores it', async () => {
    const at = await folder();
    const script = `trap '' HUP; "$0" "$@" & echo "pid $!."; wait`;
    const args = [main(), 'receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm')];
    const child = spawn('sh', ['-c', script, process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let first = '';
    child.stdout.on('data', (bytes: Buffer) => {
      first += bytes.toString();
    });
    const pid = async (): Promise<number> => Number(/pid (\d+)\./.exec(first)?.[1]);
    const said = await outcome(child, pid);
    expect(said).toContain('SIGTERM: cancelling');
    expect(said).not.toContain('SIGHUP');
  });
});

describe('image clean', () => {
  it('removes what killed runs left, of any name, and never what a living process fills', async () => {
    const at = await folder();
    const dead = await Promise.all(['one', 'two'].map((name) => killedReceive(at, name)));
    const living = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'three'));
    await living.waitForOutput(/listening at/);
    const shown = await command.run('image', 'clean', at, '--dry-run');
    expect(shown).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/is at it: stays(.|\n)*2 of 3 can be removed\n$/),
    });
    for (const path of dead) expect(shown.stdout).toContain(`${path}: `);
    expect((await readdir(at)).length).toBe(3);
    const cleaned = await command.run('image', 'clean', at, '--yes', '--json');
    expect(cleaned.code).toBe(0);
    const [event] = eventsOf(cleaned.stdout);
    expect(event).toMatchObject({ event: 'completed', folder: at, freed: expect.stringMatching(/^\d+$/) });
    const leftovers = event?.leftovers as { path: string; owner: string; removed: boolean }[];
    expect(leftovers.filter(({ removed }) => removed).map(({ path }) => path)).toEqual(dead.toSorted());
    expect(leftovers.find(({ owner }) => owner === 'alive')).toMatchObject({ removed: false });
    expect(await readdir(at)).toEqual([expect.stringMatching(/^\.three\.partial-/)]);
    living.kill('SIGINT');
    expect((await living.ended).code).toBe(130);
    expect(await command.run('image', 'clean', at)).toMatchObject({
      code: 0,
      stdout: `nothing unfinished is in ${at}\n`,
    });
  });

  it('removes nothing when there is no one to ask', async () => {
    const at = await folder();
    await killedReceive(at, 'one');
    for (const args of [[], ['--json']]) {
      const { code, stdout, stderr } = await command.run('image', 'clean', at, ...args);
      expect([code, `${stdout}${stderr}`]).toEqual([
        2,
        expect.stringMatching(/no terminal to ask at: add --yes/),
      ]);
    }
    expect(await readdir(at)).toHaveLength(1);
  });

  it('asks at a terminal, and takes only yes for yes', async () => {
    const at = await folder();
    await killedReceive(at, 'one');
    const main = join(command.work, '../dist/cli/main.js');
    const ask = async (answer: string): Promise<string> => {
      const line = `'${process.execPath}' '${main}' image clean '${at}'`;
      const terminal = spawn('script', ['-qec', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
      let said = '';
      (terminal.stdout as Readable).on('data', (bytes: Buffer) => {
        said += bytes.toString();
      });
      const closed = once(terminal, 'close');
      await expect.poll(() => said, { timeout: 30_000 }).toMatch(/remove it \(.*\)\? \[y\/N\]/);
      terminal.stdin.write(`${answer}\r`);
      await closed;
      return said;
    };
    expect(await ask('')).toContain('nothing was removed');
    expect(await readdir(at)).toHaveLength(1);
    expect(await ask('y')).toContain('removed 1 of 1');
    expect(await readdir(at)).toEqual([]);
  });

  it('ends with 2 where there is no such folder', async () => {
    const { code, stderr } = await command.run('image', 'clean', join(await folder(), 'none'));
    expect([code, stderr]).toEqual([2, expect.stringMatching(/there is no folder .*INVALID_ARGUMENT/)]);
  });
});

describe('what killed runs left', () => {
  it('is named when receive and from-qemu start in that folder', async () => {
    const at = await folder();
    const left = await killedReceive(at, 'one');
    const notice = expect.stringContaining(`${left} (`);
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'two'), '--json');
    expect(await receiver.waitForEvent('notice')).toMatchObject({ message: notice });
    receiver.kill('SIGINT');
    await receiver.ended;
    const reader = command.start('image', 'from-qemu', '-', join(at, 'three'));
    reader.stdin.end(stream);
    expect(await reader.ended).toMatchObject({ code: 0, stderr: notice });
  });
});

/** Commands that move no VM between processes: help, images, doctor; and what happens without the addon. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdtemp, open as openFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { differingFiles, syntheticImage } from '../support/images.ts';
import { buildCommand, type CommandFolder, eventsOf } from './command.ts';

let command: CommandFolder;
let withoutAddon: CommandFolder;
let stream: Buffer;
let image: string;

beforeAll(async () => {
  command = await buildCommand();
  withoutAddon = await buildCommand({ addon: false });
  stream = gunzipSync(await readFile(new URL('../fixtures/qemu/plain.stream.gz', import.meta.url)));
  image = join(command.work, 'vm');
  const made = command.start('image', 'from-qemu', '-', image);
  made.stdin.end(stream);
  expect(await made.ended).toMatchObject({ code: 0, stderr: '' });
});
afterAll(() => Promise.all([command[Symbol.asyncDispose](), withoutAddon[Symbol.asyncDispose]()]));

const folder = (): Promise<string> => mkdtemp(join(command.work, 'case-'));

async function fifoIn(at: string, name = 'fifo'): Promise<string> {
  const fifo = join(at, name);
  await promisify(execFile)('mkfifo', [fifo]);
  return fifo;
}

/** The master of a new pseudo-terminal: a reader waits in the kernel for a slave that is never opened. */
const SILENT_DEVICE = '/dev/ptmx';
const cancelledText = /\(CANCELLED, phase image\)\n/;
const cancelled = expect.stringMatching(cancelledText);

function imageIsBegun(at: string): Promise<void> {
  const names = expect.poll(() => readdir(at), { timeout: 30_000 });
  return names.toContainEqual(expect.stringMatching(/^\.vm\.partial-/));
}

describe('without the addon', () => {
  it.each([
    [[], ['receive', 'send', 'image', 'doctor', 'Exit codes']],
    [
      ['receive'],
      [
        '<uri>',
        '--image <dir>',
        '--ram-file',
        '--timeout',
        '--provider',
        '--commit',
        '--crc',
        '--json',
        '-q, --quiet',
        '-v, --verbose',
      ],
    ],
    [
      ['send'],
      [
        '<image>',
        '<uri>',
        '--pin-all',
        '--max-bandwidth',
        '--verify',
        '--provider',
        '--commit',
        '--crc',
        '--json',
      ],
    ],
    [['image'], ['inspect', 'to-qemu', 'from-qemu']],
    [
      ['image', 'inspect'],
      ['<image>', '--json'],
    ],
    [
      ['image', 'to-qemu'],
      ['<image>', '<file>', '--ignore-shared'],
    ],
    [
      ['image', 'from-qemu'],
      ['<file>', '<image>', '--shared-ram', '--accept-unproven'],
    ],
    [['doctor'], ['--json']],
  ])('%j --help names its arguments and options', async (path, words) => {
    const { code, stdout, stderr } = await withoutAddon.run(...path, '--help');
    expect([code, stderr]).toEqual([0, '']);
    for (const word of words) expect(stdout).toContain(word);
  });

  it('--version is that of package.json', async () => {
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await withoutAddon.run('--version')).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  it('doctor says that it is missing and how to build it, and ends with 7', async () => {
    const { code, stdout } = await withoutAddon.run('doctor', '--json');
    const { ready, checks } = JSON.parse(stdout);
    expect([code, ready]).toEqual([7, false]);
    const addon = checks.find(({ name }: { name: string }) => name === 'addon');
    expect(addon).toMatchObject({
      status: 'missing',
      essential: true,
      remedy: expect.stringContaining('npm run build:native'),
    });
    const { stdout: text } = await withoutAddon.run('doctor');
    expect(text).toMatch(/\nmissing {2}native addon .*\n +essential: apt-get install .*npm run build:native/);
  });

  it('send ends with 7 and says how to build it; inspect works', async () => {
    const { code, stderr } = await withoutAddon.run('send', image, 'rdma:127.0.0.1:1');
    expect([code, stderr]).toEqual([
      7,
      expect.stringMatching(/npm run build:native.*\(PROVIDER_UNAVAILABLE, phase configure\)/),
    ]);
    expect((await withoutAddon.run('image', 'inspect', image)).code).toBe(0);
  });
});

describe('doctor', () => {
  it('migrates a VM in process, says at what rate, and names a remedy for all that is not ok', async () => {
    const { code, stdout } = await command.run('doctor', '--json');
    const report = JSON.parse(stdout);
    expect([code, report.ready]).toEqual([0, true]);
    const checks: { name: string; status: string; remedy?: string; details: Record<string, unknown> }[] =
      report.checks;
    const selfTest = checks.find(({ name }) => name === 'self-test');
    expect(selfTest).toMatchObject({
      status: 'ok',
      details: { bytes: '67108864', 'bytes-per-second': expect.any(Number) },
    });
    for (const check of checks)
      expect([check.name, check.status === 'ok' || check.remedy]).not.toEqual([check.name, undefined]);
    const { stdout: text } = await command.run('doctor');
    expect(text).toMatch(
      /\nok +migration over iWARP +64 MiB .*identical\nthis machine can migrate over iWARP\n$/,
    );
  });
});

describe('image', () => {
  it('inspect shows what is in it, for people and for programs', async () => {
    const text = await command.run('image', 'inspect', image);
    expect(text.stdout).toMatch(/machine +pc-i440fx-7\.2.*\n[\s\S]*pc\.ram: 32\.0 MiB/);
    const { machine, ramBytes, devices } = JSON.parse(
      (await command.run('image', 'inspect', image, '--json')).stdout,
    );
    expect([machine, ramBytes, devices[0]]).toEqual([
      'pc-i440fx-7.2',
      '34086912',
      { name: 'timer', instanceId: 0 },
    ]);
  });

  it('inspect has said everything when it ends, to a reader that takes its time too', async () => {
    const large = join(await folder(), 'large');
    const blocks = Array.from({ length: 800 }, (_, at) => ({
      name: `block-${at}-${'x'.repeat(100)}`,
      length: 4096n,
      fill: 'zero' as const,
    }));
    await (await syntheticImage(large, blocks)).close();
    const main = join(command.work, '../dist/cli/main.js');
    const line = `'${process.execPath}' '${main}' image inspect '${large}' --json | (sleep 1; cat)`;
    const { stdout } = await promisify(execFile)('sh', ['-c', line], { maxBuffer: 16 << 20 });
    expect(stdout.length).toBeGreaterThan(2 * 65_536);
    expect(JSON.parse(stdout).blocks).toHaveLength(800);
  });

  it('to-qemu and from-qemu are ways back of each other, by a file and by a pipe', async () => {
    const at = await folder();
    const written = await command.run('image', 'to-qemu', image, join(at, 'stream'), '--json');
    expect([written.code, eventsOf(written.stdout).at(-1)]).toEqual([
      0,
      expect.objectContaining({
        event: 'completed',
        streamBytes: String((await readFile(join(at, 'stream'))).length),
      }),
    ]);
    expect((await command.run('image', 'from-qemu', join(at, 'stream'), join(at, 'again'))).code).toBe(0);
    expect(await differingFiles(image, join(at, 'again'))).toEqual([]);
    const piped = await promisify(execFile)('sh', [
      '-c',
      '"$0" "$1" image to-qemu "$2" - | cmp - "$3"',
      process.execPath,
      join(command.work, '../dist/cli/main.js'),
      image,
      join(at, 'stream'),
    ]);
    expect(piped.stdout).toBe('');
  });

  it('to-qemu overwrites no file, and leaves none when it fails', async () => {
    const at = await folder();
    const file = join(at, 'stream');
    expect((await command.run('image', 'to-qemu', image, file, '--ignore-shared', 'no.ram')).code).toBe(2);
    expect(await readdir(at)).toEqual([]);
    expect((await command.run('image', 'to-qemu', image, file)).code).toBe(0);
    const before = await readFile(file);
    const again = await command.run('image', 'to-qemu', image, file);
    expect([again.code, again.stderr]).toEqual([2, expect.stringContaining('is not overwritten')]);
    expect(before.equals(await readFile(file))).toBe(true);
  });

  it('to-qemu - ends with 3 when the reader goes away', async () => {
    const writer = command.start('image', 'to-qemu', image, '-');
    writer.closeStdout();
    const { code, stderr } = await writer.ended;
    expect([code, stderr]).toEqual([3, expect.stringMatching(/\(CONNECTION_CLOSED, phase image\)\n$/)]);
  });

  it('inspect ends with 0 when the reader goes away', async () => {
    const inspecting = command.start('image', 'inspect', image);
    inspecting.closeStdout();
    expect(await inspecting.ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('from-qemu ends with 5 for a stream that is cut, with 130 on Ctrl-C, and keeps nothing', async () => {
    const at = await folder();
    const cut = command.start('image', 'from-qemu', '-', join(at, 'vm'), '--json');
    cut.stdin.end(stream.subarray(0, 1_000_000));
    const ended = await cut.ended;
    expect([ended.code, eventsOf(ended.stdout).at(-1)]).toEqual([
      5,
      expect.objectContaining({ code: 'STREAM_TRUNCATED' }),
    ]);
    const waiting = command.start('image', 'from-qemu', '-', join(at, 'vm'), '--json');
    waiting.stdin.write(stream.subarray(0, 1_000_000));
    await waiting.waitForEvent('progress');
    waiting.kill('SIGINT');
    expect((await waiting.ended).code).toBe(130);
    expect(await readdir(at)).toEqual([]);
  });

  it('to-qemu waits for the reader of a FIFO, and from-qemu for the writer', async () => {
    const at = await folder();
    const [first, second] = [await fifoIn(at, 'first'), await fifoIn(at, 'second')];
    const writing = command.start('image', 'to-qemu', image, first);
    await writing.waitForMessage(/no reader yet/);
    const reading = command.start('image', 'from-qemu', second, join(at, 'vm'));
    await imageIsBegun(at);
    await promisify(execFile)('sh', ['-c', 'cat "$0" > "$1"', first, second]);
    for (const { ended } of [writing, reading]) expect(await ended).toMatchObject({ code: 0 });
    expect(await differingFiles(image, join(at, 'vm'))).toEqual([]);
  });

  it('to-qemu ends with 3 when the reader of a FIFO goes away', async () => {
    const fifo = await fifoIn(await folder());
    const writing = command.start('image', 'to-qemu', image, fifo);
    await promisify(execFile)('sh', ['-c', 'head -c 100000 "$0" > /dev/null', fifo]);
    const { code, stderr } = await writing.ended;
    expect([code, stderr]).toEqual([3, expect.stringMatching(/\(CONNECTION_CLOSED, phase image\)\n$/)]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s alone ends with %i who waits for the other end of a FIFO', async (signal, code) => {
    const at = await folder();
    const fifo = await fifoIn(at);
    const reading = command.start('image', 'from-qemu', fifo, join(at, 'vm'));
    await imageIsBegun(at);
    reading.kill(signal);
    expect(await reading.ended).toMatchObject({ code, stderr: cancelled });
    const writing = command.start('image', 'to-qemu', image, fifo);
    await writing.waitForMessage(/no reader yet/);
    writing.kill(signal);
    expect(await writing.ended).toMatchObject({ code, stderr: cancelled });
    expect(await readdir(at)).toEqual(['fifo']);
  });

  it('SIGINT ends to-qemu with 130 when the reader of its FIFO does not read on', async () => {
    const fifo = await fifoIn(await folder());
    const writing = command.start('image', 'to-qemu', image, fifo, '--json');
    await using reader = await openFile(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const some = () =>
      reader.read(Buffer.alloc(1)).then(
        ({ bytesRead }) => bytesRead,
        () => 0,
      );
    await expect.poll(some, { timeout: 30_000 }).toBe(1);
    writing.kill('SIGINT');
    expect((await writing.ended).code).toBe(130);
  });

  it.each([
    ['SIGINT', 'SIGTERM'],
    ['SIGTERM', 'SIGINT'],
  ] as const)(
    'from-qemu keeps nothing after %s while a device blocks it, and a second signal ends it',
    async (first, second) => {
      const at = await folder();
      const waiting = command.start('image', 'from-qemu', SILENT_DEVICE, join(at, 'vm'));
      await imageIsBegun(at);
      waiting.kill(first);
      await waiting.waitForMessage(cancelledText);
      expect(await readdir(at)).toEqual([]);
      waiting.kill(second);
      expect((await waiting.ended).signal).toBe(second);
    },
  );

  it('from-qemu ends by the first signal alone, too, when a device blocks it', async () => {
    const at = await folder();
    const waiting = command.start('image', 'from-qemu', SILENT_DEVICE, join(at, 'vm'));
    await imageIsBegun(at);
    waiting.kill('SIGINT');
    expect((await waiting.ended).signal).toBe('SIGINT');
  });
});

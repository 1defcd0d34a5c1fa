/** Wrong options, as an embedder in JavaScript may give them: all are refused before anything is opened. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  fromQemu,
  ImageWriter,
  MigrationDestination,
  MigrationError,
  MigrationSource,
  openImage,
  readQemuStream,
  toQemu,
  writeQemuStream,
} from '../../lib/index.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';

let vm: MemoryVm;
beforeAll(async () => {
  vm = await MemoryVm.create({ 'pc.ram': 1n << 20n });
});
afterAll(() => vm[Symbol.asyncDispose]());

/** What they are is what is tested. */
// biome-ignore lint/suspicious/noExplicitAny: an embedder in JavaScript has no types
type Untyped = any;

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(MigrationError);
    const { code, phase, message } = error as MigrationError;
    expect([code, phase], message).toEqual(['INVALID_ARGUMENT', 'configure']);
    return message;
  }
  throw new Error('nothing was refused');
}

const source = (options: Untyped) => refusal(() => new MigrationSource(vm, 'rdma:127.0.0.1:1', options));
const destination = (options: Untyped) =>
  refusal(() => MigrationDestination.listen('rdma:127.0.0.1:0', new MemoryTarget(), options));

const COMMON: readonly [Untyped, string][] = [
  [{ commit: 'requrie' }, 'expected auto, require or off for commit but received "requrie" of type string'],
  [{ provider: 'rdma' }, 'expected auto, iwarp or verbs for provider but received "rdma" of type string'],
  [{ crc: 1 }, 'expected true or false for crc but received 1 of type number'],
  [
    { commitTimeoutMs: 1.5 },
    'expected an integer from 1 to 2147483647 milliseconds for commitTimeoutMs but received 1.5 of type number',
  ],
  [
    { connectTimeoutMs: '10' },
    'expected an integer from 1 to 2147483647 milliseconds for connectTimeoutMs but received "10" of type string',
  ],
  [
    { responseTimeoutMs: 0 },
    'expected an integer from 1 to 2147483647 milliseconds for responseTimeoutMs but received 0 of type number',
  ],
  [
    { totalTimeoutMs: 2 ** 31 },
    'expected an integer from 1 to 2147483647 milliseconds for totalTimeoutMs but received 2147483648 of type number',
  ],
  [{ channels: 17 }, 'expected an integer from 1 to 16 for channels but received 17 of type number'],
  [{ channels: 0 }, 'expected an integer from 1 to 16 for channels but received 0 of type number'],
  [
    { pinBudget: 1 << 30 },
    'expected at least 2097152 bytes as bigint for pinBudget but received 1073741824 of type number',
  ],
  [
    { pinBudget: 1024n },
    'expected at least 2097152 bytes as bigint for pinBudget but received 1024n of type bigint',
  ],
  [{ onPinLimit: 'raise' }, 'expected lower or fail for onPinLimit but received "raise" of type string'],
  [
    { crc: null, commit: 1 },
    'expected true or false for crc but received null; expected auto, require or off for commit but received 1 of type number',
  ],
  [{ tls: {} }, 'tls.creds is missing: without credentials nobody can prove anything'],
  [{ tls: true }, 'expected an object of options for tls but received true of type boolean'],
  [{ tls: { creds: 'd', cred: 'd' } }, 'unknown option tls.cred: did you mean tls.creds?'],
  ...[
    '',
    'a\nb',
    7,
    {},
    { ca: 1 },
    { ca: 'x', kee: 'x' },
    { keys: ['x'] },
    { keys: { a: 1 } },
    { keys: {}, ca: 'x' },
  ].map((creds): [Untyped, string] => [
    { tls: { creds } },
    expect.stringMatching(
      /^expected a folder, or an object .* for tls\.creds but received /,
    ) as unknown as string,
  ]),
  [
    { tls: { creds: 'd', authz: 'x', authorize: true, pskName: '' } },
    'expected a string that is not empty for tls.pskName but received "" of type string; ' +
      'expected an array for tls.authz but received "x" of type string; ' +
      'expected a function for tls.authorize but received true of type boolean',
  ],
  [{ comit: 'off' }, 'unknown option comit: did you mean commit?'],
  [7, 'expected an object of options for options but received 7 of type number'],
];

describe('a source refuses', () => {
  it.each<[Untyped, string]>([
    ...COMMON,
    [{ pinall: true }, 'unknown option pinall: did you mean pinAll?'],
    [
      { maxBandwidth: 500 },
      'expected bytes per second as bigint for maxBandwidth but received 500 of type number',
    ],
    [
      { maxBandwidth: -1n },
      'expected bytes per second as bigint for maxBandwidth but received -1n of type bigint',
    ],
    [{ verify: 'yes' }, 'expected true or false for verify but received "yes" of type string'],
    [{ hints: {} }, 'expected a MigrationHints for hints but received an object of type object'],
    [
      { live: { downtimeLimit: 300 } },
      'unknown option live.downtimeLimit: did you mean live.downtimeLimitMs?',
    ],
    [
      { live: { maxCpuThrottle: 100 } },
      'expected an integer from 1 to 99 percent for live.maxCpuThrottle but received 100 of type number',
    ],
    [{ live: true }, 'expected an object of options for live but received true of type boolean'],
    [
      { pinAll: true, pinBudget: 1n << 30n },
      'pinAll registers everything at once and pinBudget limits what is: ask for one of them',
    ],
    [
      { verify: true, commit: 'off' },
      'verify compares RAM as a part of the commit handshake, and commit off leaves that out: ask for one of them',
    ],
  ])('%o', async (options, message) => expect(await source(options)).toEqual(message));

  it('a far-off key, and says which there are', async () => {
    expect(await source({ colour: 'red' })).toMatch(
      /^unknown option colour: known are provider, crc, .*verify.*live$/,
    );
  });

  it('what it is told later', async () => {
    const good: Untyped = new MigrationSource(vm, 'rdma:127.0.0.1:1');
    expect(await refusal(() => good.setMaxBandwidth(5))).toContain(
      'for bytesPerSecond but received 5 of type number',
    );
    expect(await refusal(() => good.setLive({ autoConverge: 'on' }))).toContain(
      'for autoConverge but received "on"',
    );
    expect(await refusal(() => good.migrate({ signal: {} }))).toContain('expected an AbortSignal for signal');
    expect(await refusal(() => good.migrate({ singal: undefined }))).toContain('did you mean signal?');
  });

  it('nothing that is right', () => {
    new MigrationSource(vm, 'rdma:127.0.0.1:1', {
      provider: 'iwarp',
      commit: 'require',
      verify: true,
      pinBudget: 1n << 30n,
      maxBandwidth: 0n,
      live: { downtimeLimitMs: 1, autoConverge: true },
    });
  });
});

describe('a destination refuses', () => {
  it.each<[Untyped, string]>([
    ...COMMON,
    [
      { tls: { creds: 'd', hostname: 'h' } },
      'unknown option tls.hostname: known are creds, pskName, authz, authorize',
    ],
    [{ populate: 'no' }, 'expected auto, always or never for populate but received "no" of type string'],
    [{ pinAll: true }, expect.stringMatching(/^unknown option pinAll: /) as unknown as string],
    [{ allow: '192.0.2.7' }, 'expected an array for allow but received "192.0.2.7" of type string'],
    [
      { allow: ['192.0.2.7', 'localhost'] },
      'expected an address or a network, such as 192.0.2.0/24 or 2001:db8::/32 for allow[1] but received "localhost" of type string',
    ],
  ])('%o', async (options, message) => expect(await destination(options)).toEqual(message));

  it('before it listens', async () => {
    // The port is taken: had it been tried first, that would be the error.
    await using server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const listen = (options: Untyped) =>
      MigrationDestination.listen(`rdma:127.0.0.1:${port}`, new MemoryTarget(), options);
    expect(await refusal(() => listen({ commitTimeoutMs: -1 }))).toContain('commitTimeoutMs');
  });
});

describe('the functions on images refuse', () => {
  const WRONG: readonly [string, (options: Untyped) => Promise<unknown>][] = [
    ['openImage', (options) => openImage('/none', options)],
    ['ImageWriter.open', (options) => ImageWriter.open('/none/none', options)],
    ['fromQemu', (options) => fromQemu((async function* () {})(), '/none', options)],
    ['toQemu', (options) => toQemu('/none', process.stdout, options)],
    ['readQemuStream', (options) => readQemuStream((async function* () {})(), {} as Untyped, options)],
    ['writeQemuStream', (options) => writeQemuStream(vm, process.stdout, options)],
  ];
  it.each(WRONG)('an unknown option of %s', async (_name, call) => {
    expect(await refusal(() => call({ native: {} }))).toMatch(/^unknown option native: known are /);
  });

  it('paths that are none', async () => {
    const message =
      'expected an object of paths by the names of RAM blocks for ramFiles but received an object of type object';
    expect(await refusal(() => openImage('/none', { ramFiles: { ram: 7 } } as Untyped))).toBe(message);
  });
});

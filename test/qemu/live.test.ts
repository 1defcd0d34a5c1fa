/** The running guest of a stock QEMU moves into another one by rdma-migrate qemu, and what becomes of it when that fails. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Bench, type Receiver } from '../../examples/qemu-live/bench.ts';
import {
  checkRunningGuest,
  requireOneCount,
  requireSameRest,
  waitForGuest,
} from '../../examples/qemu-live/check.ts';
import type { CommandProcess, Line } from '../../examples/qemu-live/command.ts';
import { DiskCheck } from '../../examples/qemu-live/disk.ts';
import type { MachineOptions } from '../../examples/qemu-live/machine.ts';
import { type Disturbance, move } from '../../examples/qemu-live/migrate.ts';
import type { Vm } from '../../examples/qemu-live/vm.ts';
import { parseRdmaUri } from '../../lib/index.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';
import { temporaryFolder } from '../support/temp.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const REGION_BYTES = 4 * MIB;
const BUILD_TIMEOUT_MS = 180_000;
const TEST_TIMEOUT_MS = 180_000;
const observerModule = pathToFileURL(`${ROOT}build/node/examples/qemu-live/observer-worker.js`);

/** The commands and the observer's thread are compiled modules, as users have them. */
async function compile(): Promise<void> {
  const tsc = `${ROOT}node_modules/typescript/bin/tsc`;
  for (const project of ['tsconfig.build.json', 'tsconfig.examples.json']) {
    await promisify(execFile)(process.execPath, [tsc, '-p', project], { cwd: ROOT });
  }
}

/** Between the two ends, until it is cut; who comes later is let through again. */
class Cut implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(uri: string): Promise<{ cut: Cut; uri: string }> {
    const server = createServer();
    const cut = new Cut(server);
    const { host, port } = parseRdmaUri(uri);
    server.on('connection', (from) => cut.#join(from, createConnection(port, host)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { cut, uri: `rdma:127.0.0.1:${(server.address() as AddressInfo).port}` };
  }

  #join(...both: [Socket, Socket]): void {
    for (const [from, to] of [both, [both[1], both[0]] as const]) {
      this.#sockets.add(from);
      from.on('error', () => to.destroy()).on('close', () => to.destroy());
      from.pipe(to);
    }
  }

  now(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.now();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const reached = (command: CommandProcess, wanted: string): Promise<void> =>
  new Promise((resolve) => {
    command.onLine(({ event, phase }) => {
      if (event === 'phase' && phase === wanted) resolve();
    });
  });

describeWithQemu('rdma-migrate qemu', { ramBytes: 64 * MIB }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let bench: Bench;
  let from: Vm;
  let disk: DiskCheck;

  beforeAll(compile, BUILD_TIMEOUT_MS);

  beforeEach(async () => {
    folder = await temporaryFolder('rdma-migrate-live-');
  });

  afterEach(async () => {
    await bench[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  async function boot(options: Partial<MachineOptions> = {}): Promise<void> {
    const { signal } = new AbortController();
    const machine = { machine: 'pc', ramBytes: 64 * MIB, nodes: 1, disk: true, ...options } as const;
    const place = { folder: folder.path, executable: 'qemu-system-x86_64', listen: '127.0.0.1' };
    bench = await Bench.open({ ...machine, ...place, regionBytes: REGION_BYTES, signal });
    from = await bench.boot();
    await waitForGuest(from);
    disk = new DiskCheck(bench.at('disk.qcow2'));
    await disk.write(from, 1);
  }

  const args = ['--downtime-limit', '5000', '--settle-timeout', '60'];
  const moveTo = (to: Receiver, disturbance?: Disturbance, options: readonly string[] = []) =>
    move(bench, from, to, {
      args: [...args, ...options],
      observerModule,
      ...(disturbance && { disturbance }),
    });
  /** A pass over RAM lasts until something ends it. */
  const SLOWLY = ['--max-bandwidth', '1M'];

  async function expectGuest(vm: Vm, number: number): Promise<void> {
    expect(await vm.status()).toBe('running');
    await checkRunningGuest(vm);
    requireOneCount(await bench.serials());
    await disk.check(vm);
    await disk.write(vm, number);
    await disk.check(vm);
  }

  it(
    'moves while its guest writes: a q35 of two NUMA nodes with a disk',
    async () => {
      await boot({ machine: 'q35', nodes: 2 });
      const to = await bench.receive();
      const ending = await moveTo(to);
      if (!ending.moved) throw new Error(`${ending.message} ${ending.reason}`);
      expect(await from.status()).toBe('postmigrate');
      await requireSameRest(from, to.vm, 64 * MIB);
      await expectGuest(to.vm, 2);
      expect(ending.result?.outcome).toBe('committed');
      expect(ending.result?.live?.rounds.length).toBeGreaterThan(1);
      const id = ending.result?.migrationId as string;
      const { last } = await bench.run(['qemu', 'status', id, '--state-dir', bench.stateDir]).ended;
      expect(last).toMatchObject({ status: 'taken', alive: true, pid: to.vm.pid });
    },
    TEST_TIMEOUT_MS,
  );

  it(
    'runs on at the source, with its disk, whenever the migration is cancelled or the destination killed, and nothing is left there',
    async () => {
      await boot();
      const disturbances = [
        { kind: 'cancel', phase: 'ram' },
        { kind: 'cancel', phase: 'device-state' },
        { kind: 'kill', phase: 'ram' },
        { kind: 'kill', phase: 'device-state' },
      ] as const;
      for (const [number, { kind, phase }] of disturbances.entries()) {
        const disturbance = { kind, phase, afterMs: 0, holds: true };
        const ending = await moveTo(await bench.receive(), disturbance, phase === 'ram' ? SLOWLY : []);
        expect(ending, `${kind} in ${phase}`).toMatchObject({ moved: false });
        // A cancel may come when COMMIT has been sent: then the destination decides, whose QEMU does not answer.
        const codes = phase === 'ram' ? ['CANCELLED'] : ['CANCELLED', 'PEER_ERROR'];
        if (!ending.moved && kind === 'cancel') expect(codes).toContain(ending.code);
        await expectGuest(from, number + 2);
      }
      expect((await readdir(bench.stateDir)).filter((name) => name.startsWith('vm-'))).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  it(
    'is refused before RAM moves by a QEMU with another device, another machine, or none that waits, and does not stop for it',
    async () => {
      await boot({ disk: false });
      const refusals: [(args: string[]) => string[], RegExp][] = [
        [(all) => [...all, '-device', 'i6300esb'], /device i6300esb only here/],
        [(all) => all.map((one) => one.replace(/^pc,/, 'q35,')), /machine pc-i440fx\S* and pc-q35/],
      ];
      for (const [changed, why] of refusals) {
        const ending = await moveTo(await bench.receive([], changed));
        expect(ending).toMatchObject({ moved: false, code: 'PEER_ERROR', phase: 'setup' });
        if (!ending.moved) expect(ending.reason).toMatch(why);
        expect(await from.status()).toBe('running');
      }
      const privately = (all: string[]) => all.map((one) => one.replace(',share=on', ''));
      await expect(bench.receive([], privately)).rejects.toThrow(
        /RAM block pc.ram .* is mapped private. Start QEMU with/,
      );
      const dies = await bench.receive();
      dies.vm.kill();
      expect((await dies.command.ended).last).toMatchObject({ event: 'error', code: 'GUEST_ERROR' });
      const joined = await bench.run(['qemu', 'receive', 'rdma:127.0.0.1:0', '--qmp', from.qmpSocket]).ended;
      expect(joined.last?.message).toMatch(/is running and waits for no VM/);
      await checkRunningGuest(from);
    },
    TEST_TIMEOUT_MS,
  );

  it(
    'arrives stopped where it is told to, in a QEMU that waited already, which ends when the migration fails',
    async () => {
      await boot();
      const doomed = await bench.receiveInto(await bench.boot('waits'));
      const ending = await moveTo(doomed, { kind: 'cancel', phase: 'ram', afterMs: 0 }, SLOWLY);
      expect(ending).toMatchObject({ moved: false, code: 'CANCELLED' });
      expect(await doomed.vm.alive()).toBe(false);
      await expectGuest(from, 2);
      const to = await bench.receiveInto(await bench.boot('waits'), ['--paused']);
      expect(await moveTo(to)).toMatchObject({ moved: true });
      expect(await to.vm.status()).toBe('paused');
      await to.vm.execute('cont');
      await expectGuest(to.vm, 3);
    },
    TEST_TIMEOUT_MS,
  );

  /** The answer to COMMIT is lost, and with it the link for good: `decide` says meanwhile what becomes of the QEMU that loads the VM. */
  async function loseTheAnswer(
    decide: 'SIGCONT' | 'SIGKILL',
  ): Promise<{ to: Receiver; code: number | null; last: Line | undefined }> {
    await boot();
    const to = await bench.receive();
    const { cut, uri } = await Cut.open(to.uri);
    await using _ = cut;
    const forGood = ['--resume-window', 'off'];
    const source = bench.run(['qemu', 'move', uri, '--qmp', from.qmpSocket, ...forGood, ...args]);
    await reached(source, 'ram');
    process.kill(to.vm.pid, 'SIGSTOP');
    await reached(to.command, 'commit');
    cut.now();
    process.kill(to.vm.pid, decide);
    const { code, last } = await source.ended;
    return { to, code, last };
  }

  it(
    'has moved when the answer was lost and the destination says so when asked again',
    async () => {
      const { to, code, last } = await loseTheAnswer('SIGCONT');
      expect(last).toMatchObject({ event: 'completed', settled: true });
      expect(code).toBe(0);
      expect(await from.status()).toBe('postmigrate');
      await expectGuest(to.vm, 2);
    },
    TEST_TIMEOUT_MS,
  );

  it(
    'runs on at the source when the answer was lost and the destination says that it has nothing',
    async () => {
      const { to, last } = await loseTheAnswer('SIGKILL');
      expect(last).toMatchObject({ event: 'error', code: 'CONNECTION_LOST', phase: 'commit' });
      expect(await to.vm.alive()).toBe(false);
      await expectGuest(from, 2);
    },
    TEST_TIMEOUT_MS,
  );
});

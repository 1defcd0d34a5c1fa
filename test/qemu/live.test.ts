/** A running stock QEMU moves into another one, and what becomes of its guest when that fails. */
import { execFile } from 'node:child_process';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type DestinationProcess, startDestination } from '../../examples/destination/process.ts';
import { Bench, type Vm } from '../../examples/qemu-live/bench.ts';
import {
  checkRunningGuest,
  readState,
  requireOneCount,
  requireSameRest,
  waitForGuest,
} from '../../examples/qemu-live/check.ts';
import { describeMachine, parseRamBlocks } from '../../examples/qemu-live/machine.ts';
import { type Moved, type MoveOptions, move, type Stayed } from '../../examples/qemu-live/migrate.ts';
import { OutgoingVm } from '../../examples/qemu-live/outgoing.ts';
import { DutyCycle } from '../../examples/qemu-live/throttle.ts';
import { trackerOf } from '../../examples/qemu-live/trackers.ts';
import type { MigrationSource, Phase, QmpEvent } from '../../lib/index.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';
import { temporaryFolder } from '../support/temp.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const RAM_BYTES = 64 * MIB;
const REGION_BYTES = 8 * MIB;
const BUILD_TIMEOUT_MS = 180_000;

const compiled = (name: string): URL => pathToFileURL(`${ROOT}build/node/examples/qemu-live/${name}.js`);

/** Names of the events up to now. */
function namesOf(events: AsyncIterable<QmpEvent>): string[] {
  const names: string[] = [];
  const read = async (): Promise<void> => {
    for await (const { name } of events) names.push(name);
  };
  read().catch(() => undefined); // QEMU has ended
  return names;
}

/** The second process and the observer's thread are compiled modules, as users have them. */
async function compile(): Promise<void> {
  const tsc = `${ROOT}node_modules/typescript/bin/tsc`;
  for (const project of ['tsconfig.build.json', 'tsconfig.examples.json']) {
    await promisify(execFile)(process.execPath, [tsc, '-p', project], { cwd: ROOT });
  }
}

describeWithQemu('a running QEMU', { ramBytes: RAM_BYTES }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let bench: Bench;
  let from: Vm;

  beforeAll(compile, BUILD_TIMEOUT_MS);

  beforeEach(async () => {
    folder = await temporaryFolder('rdma-migrate-live-');
    const signal = new AbortController().signal;
    bench = await Bench.open({ folder: folder.path, ramBytes: RAM_BYTES, regionBytes: REGION_BYTES, signal });
  });

  afterEach(async () => {
    await bench[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  async function boot(executable?: string): Promise<Vm> {
    from = await bench.start('boots', executable);
    await waitForGuest(from.qemu);
    return from;
  }

  async function moveTo(to: Vm, options: Partial<MoveOptions> = {}): Promise<Moved | Stayed> {
    return move(
      bench,
      { from, to },
      {
        uri: 'rdma:127.0.0.1:0',
        tracker: (vm, blocks) => trackerOf('hash', vm, blocks),
        live: { downtimeLimitMs: 2_000 },
        ...{ pinAll: false, maxBandwidth: 0n },
        startDestination: (job) => startDestination(compiled('destination'), job),
        observerModule: compiled('observer-worker'),
        ...options,
      },
    );
  }

  /** Calls back when the migration enters a phase. */
  const inPhase =
    (phase: Phase, act: (destination: DestinationProcess) => void) =>
    (source: MigrationSource, destination: DestinationProcess): void => {
      source.on('phase', (entered) => {
        if (entered === phase) act(destination);
      });
    };

  async function expectToHaveStayed(ending: Moved | Stayed): Promise<Stayed> {
    if (ending.moved) throw new Error('the guest has moved');
    expect(await from.qemu.status()).toBe('running');
    await checkRunningGuest(from.qemu);
    requireOneCount(await bench.serials());
    return ending;
  }

  it('moves while its guest writes, which goes on from where it was stopped', async () => {
    await boot();
    const to = await bench.start('waits');
    const ending = await moveTo(to);
    if (!ending.moved) throw ending.error;
    expect(await from.qemu.status()).toBe('postmigrate');
    expect(await to.qemu.status()).toBe('running');
    await requireSameRest(from.qemu.ramFile, to.qemu.ramFile, RAM_BYTES);
    const [stopped, goesOn] = [await readState(from.qemu.ramFile), await checkRunningGuest(to.qemu)];
    expect(goesOn.steps).toBeGreaterThan(stopped.steps);
    expect(requireOneCount(await bench.serials())).toBeGreaterThan(1);
    const { result, seen } = ending;
    expect(result?.outcome).toBe('committed');
    expect(result?.live?.rounds.length).toBeGreaterThan(1);
    const reported = result?.live?.downtime ?? Number.NaN;
    expect(reported).toBeGreaterThan(0);
    // Each is part of the other, but for what it takes to stop, to start, and to look.
    expect(seen.downtimeMs).toBeGreaterThan(0);
    expect(Math.abs((seen.downtimeMs ?? Number.NaN) - reported)).toBeLessThan(reported + 500);
  });

  it.for<Phase>(['connect', 'setup', 'ram', 'device-state'])(
    'runs on at the source when the migration is cancelled in phase %s',
    async (phase) => {
      await boot();
      const cancel = new AbortController();
      const onSource = inPhase(phase, () => cancel.abort());
      const stayed = await expectToHaveStayed(
        await moveTo(await bench.start('waits'), { onSource, signal: cancel.signal }),
      );
      expect(stayed.error.code).toBe('CANCELLED');
    },
  );

  it.for<Phase>(['ram', 'device-state'])(
    'runs on at the source when the destination process is killed in phase %s',
    async (phase) => {
      await boot();
      const onSource = inPhase(phase, (destination) => destination.kill());
      const { error } = await expectToHaveStayed(await moveTo(await bench.start('waits'), { onSource }));
      expect(['CONNECTION_LOST', 'CONNECTION_CLOSED']).toContain(error.code);
    },
  );

  it('runs in one place only when the migration is cancelled while the destination takes over', async () => {
    await boot();
    const to = await bench.start('waits');
    const cancel = new AbortController();
    const onSource = inPhase('commit', () => cancel.abort());
    const { moved } = await moveTo(to, { onSource, signal: cancel.signal });
    if (moved) expect(await from.qemu.status()).toBe('postmigrate');
    else expect(to.qemu.alive && (await to.qemu.status()) === 'running').toBe(false);
    await checkRunningGuest((moved ? to : from).qemu);
    requireOneCount(await bench.serials());
  });

  it('runs on at the source when the waiting QEMU refuses the device state', async () => {
    const executable = `${folder.path}/qemu-with-watchdog`;
    await writeFile(executable, '#!/bin/sh\nexec qemu-system-x86_64 "$@" -device i6300esb\n');
    await chmod(executable, 0o755);
    await boot(executable);
    const { error, reason } = await expectToHaveStayed(await moveTo(await bench.start('waits')));
    expect(error.code).toBe('PEER_ERROR');
    expect(reason).toMatch(/QEMU/);
  });

  it('runs on at the source when the waiting QEMU is another machine, and is not stopped for it', async () => {
    await boot();
    const executable = `${folder.path}/qemu-q35`;
    await writeFile(
      executable,
      '#!/bin/sh\nfor a do shift; case $a in pc,*) a=q35,$(echo "$a" | cut -c 4-);; esac; set -- "$@" "$a"; done\nexec qemu-system-x86_64 "$@"\n',
    );
    await chmod(executable, 0o755);
    const to = await bench.start('waits', executable);
    const events = namesOf(from.qemu.qmp.events());
    const ending = await moveTo(to);
    expect(events).not.toContain('STOP');
    const { error, reason } = await expectToHaveStayed(ending);
    expect(events).toContain('STOP'); // the check stops it
    expect(error.phase).toBe('setup');
    expect(reason).toMatch(/another machine/);
  });

  it('can be moved after a migration that was cancelled when its guest stood still', async () => {
    await boot();
    const cancel = new AbortController();
    const onSource = inPhase('device-state', () => cancel.abort());
    await expectToHaveStayed(await moveTo(await bench.start('waits'), { onSource, signal: cancel.signal }));
    const to = await bench.start('waits');
    expect((await moveTo(to)).moved).toBe(true);
    await checkRunningGuest(to.qemu);
  });

  it('tells its machine over QMP as its own stream tells it', async () => {
    await boot();
    await using vm = await OutgoingVm.open({
      qmp: from.qemu.qmp,
      ramFiles: from.ramFiles,
      folder: folder.path,
      tracker: (blocks) => trackerOf('hash', from, blocks),
    });
    await vm.guest.pause(); // compares
    expect(vm.guest.settling).not.toContain('pc.ram');
    const pieces: Uint8Array[] = [];
    for await (const piece of vm.after()) pieces.push(piece);
    expect(Buffer.concat(pieces).length).toBeGreaterThan(1_000);
    await vm.guest.resume();
    await checkRunningGuest(from.qemu);
    expect((await describeMachine(from.qemu.qmp)).machine).toMatch(/^pc-i440fx-/);
  });

  it('is slowed down as much as is asked for, and runs at full speed again', async () => {
    await boot();
    const duty = new DutyCycle(from.qemu.qmp);
    await duty.set(90);
    const seen: string[] = [];
    for (let i = 0; i < 40; i++) seen.push(await from.qemu.status());
    await duty.set(0);
    expect(seen).toContain('paused');
    expect(await from.qemu.status()).toBe('running');
  });

  it('leaves no socket', async () => {
    await boot();
    await moveTo(await bench.start('waits'));
    expect((await readdir(folder.path)).filter((name) => name.endsWith('.sock'))).toEqual([]);
  });
});

it('reads the list of RAM blocks', () => {
  const table =
    '              Block Name    PSize              Offset               Used              Total                HVA  RO\r\n' +
    '                  pc.ram    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x00007f3f1be00000  rw\r\n' +
    '    /rom@etc/acpi/tables    4 KiB  0x0000000008060000 0x0000000000020000 0x0000000000200000 0x00007f3f24a00000  ro\r\n';
  expect(parseRamBlocks(table)).toEqual([
    { name: 'pc.ram', length: 0x800_0000n },
    { name: '/rom@etc/acpi/tables', length: 0x2_0000n },
  ]);
  expect(() => parseRamBlocks('unknown command')).toThrow(/cannot parse/);
  expect(() => parseRamBlocks('Block Name\nsomething else')).toThrow(/cannot parse/);
});

/**
 * Every migration capability of this QEMU, one at a time, into an image: the image is whole, or the error names that capability and no other.
 * The list is QEMU's own, so a newer QEMU brings its new ones (RDMA_MIGRATE_TEST_QEMU is the path of another than that in PATH).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { qemuMissing } from '../../examples/qemu/qemu.ts';
import { attempt, type Outcome } from './attempt.ts';
import { BareVm, EXECUTABLE } from './bare-vm.ts';

/** Capabilities that QEMU has only together with others. Alone the others are refused already, so one of them is named. */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  'zero-copy-send': ['multifd'],
  'postcopy-preempt': ['postcopy-ram'],
  'switchover-ack': ['return-path'],
};

/** What must be so with QEMU 7.2; `xbzrle` depends on whether a page is sent twice. */
const WHOLE = [
  ...['rdma-pin-all', 'auto-converge', 'zero-blocks', 'events', 'release-ram', 'pause-before-switchover'],
  ...['postcopy-blocktime', 'late-block-activate', 'x-ignore-shared', 'validate-uuid'],
];
const REFUSED = [
  ...['compress', 'postcopy-ram', 'x-colo', 'block', 'return-path', 'multifd', 'dirty-bitmaps'],
  'background-snapshot',
];

async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-capability-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The capabilities that a message names as such; `block` is a word of its own otherwise. */
function namedIn(message: string): string[] {
  const names = `(?<![\\w-])(?:${capabilities.join('|')})(?![\\w-])`;
  const found = message.matchAll(new RegExp(`capability (${names})|(${names}) capability`, 'g'));
  return [...new Set([...found].map(([, behind, before]) => behind ?? before ?? ''))];
}

function expectOwnName(capability: string, outcome: Outcome): void {
  if (outcome.end === 'image') expect(outcome.result.coverage).toEqual({ state: 'whole', missing: 0 });
  if (outcome.end !== 'refused') return;
  const [named, ...more] = namedIn(outcome.error.message);
  expect([capability, ...(NEEDS[capability] ?? [])], outcome.error.message).toContain(named);
  expect(more, outcome.error.message).toEqual([]);
}

const missing = qemuMissing(EXECUTABLE);
if (missing !== undefined) console.warn(`NOT RUN: capabilities of QEMU: ${missing}`);

async function ask(): Promise<{ version: string; capabilities: string[] }> {
  await using vm = await BareVm.start();
  return { version: vm.version, capabilities: await vm.capabilities() };
}

const { version, capabilities } =
  missing === undefined ? await ask() : { version: '', capabilities: ['(not run)'] };

describe.skipIf(missing !== undefined)(`an image from QEMU ${version} with one capability on`, () => {
  it.each(capabilities)('%s: whole, or refused by that name', async (capability) => {
    const outcome = await withFolder((folder) => attempt(folder, [...(NEEDS[capability] ?? []), capability]));
    if (EXECUTABLE !== 'qemu-system-x86_64')
      console.info(`QEMU ${version}, ${capability}: ${describeOutcome(outcome)}`);
    expectOwnName(capability, outcome);
    if (!version.startsWith('7.')) return;
    if (WHOLE.includes(capability)) expect(outcome.end).toBe('image');
    if (REFUSED.includes(capability)) expect(outcome.end).toBe('refused');
  });

  // Later machines send the device's state before RAM, which only QEMU can read.
  it.runIf(version.startsWith('7.'))(
    'none, and a virtio-mem device: gaps where nothing is plugged',
    async () => {
      const device = ['-object', 'memory-backend-ram,id=m0,size=64M', '-device', 'virtio-mem-pci,memdev=m0'];
      const outcome = await withFolder((folder) => attempt(folder, [], device));
      const coverage = {
        state: 'with-gaps',
        missing: 64 * 2 ** 20,
        reason: expect.stringContaining('virtio-mem'),
      };
      expect(outcome).toMatchObject({ end: 'image', result: { coverage } });
    },
  );

  it('those that libvirt sets by itself: whole without return-path, with it refused by that name', async () => {
    const set = ['events', 'pause-before-switchover', 'late-block-activate'];
    const without = await withFolder((folder) => attempt(folder, set));
    expect(without).toMatchObject({ end: 'image', result: { coverage: { state: 'whole' } } });
    const all = await withFolder((folder) => attempt(folder, [...set, 'return-path']));
    expect(all.end).toBe('refused');
    expectOwnName('return-path', all);
  });

  it('none: whole', async () => {
    const outcome = await withFolder((folder) => attempt(folder, []));
    expect(outcome).toMatchObject({ end: 'image', result: { coverage: { state: 'whole' } } });
  });
});

function describeOutcome(outcome: Outcome): string {
  if (outcome.end === 'image') return outcome.result.coverage.state;
  return outcome.end === 'refused'
    ? `${outcome.error.code}: ${outcome.error.message}`
    : `QEMU: ${outcome.reason}`;
}

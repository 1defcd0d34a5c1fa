/** What is shown, one after the other, with the same guest. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { pskFolder } from '../support/authority.ts';
import { DOMAIN, type Guest, REGION_BYTES } from './guest.ts';
import type { Host } from './host.ts';
import { type Carried, Route } from './route.ts';
import type { End } from './tunnel.ts';

export interface Stage {
  /** Where the guest is. */
  readonly a: Host;
  readonly b: Host;
  readonly guest: Guest;
  readonly work: string;
  /** Of the first scene. */
  readonly migrations: number;
  say(text: string): void;
}

export type Scene = (stage: Stage) => Promise<void>;

const STREAM = { streams: 1, bytes: REGION_BYTES };
const CHANNELS = 4;

const live: Scene = async (stage) => {
  const { a, b, guest, migrations } = stage;
  await using there = await Route.open(a, b);
  await using back = await Route.open(b, a);
  for (let count = 0; count < migrations; count++) {
    const way = count % 2 === 0 ? there : back;
    await way.migrate([], STREAM);
    await guest.check(way.to);
  }
  await home(stage, back, migrations);
};

/** After an odd number of migrations the guest is away. */
async function home({ guest }: Stage, back: Route, migrations: number): Promise<void> {
  if (migrations % 2 === 0) return;
  await back.migrate([], STREAM);
  await guest.check(back.to);
}

const thereAndBack =
  (
    options: readonly string[],
    least = STREAM,
    tunnel: (stage: Stage) => readonly string[] = () => [],
  ): Scene =>
  async (stage) => {
    const { a, b, guest } = stage;
    const more = tunnel(stage);
    await using there = await Route.open(a, b, more);
    await using back = await Route.open(b, a, more);
    for (const way of [there, back]) {
      await way.migrate(options, least);
      await guest.check(way.to);
    }
  };

const cancelled: Scene = async ({ a, b, guest, say }) => {
  await using there = await Route.open(a, b);
  const migration = await there.beginSlowly();
  await a.virsh('domjobabort', DOMAIN);
  say(await there.fails(migration));
  await guest.check(a);
};

const killed =
  (what: Carried, end: End, options: readonly string[] = []): Scene =>
  async ({ a, b, guest, say }) => {
    await using there = await Route.open(a, b);
    await using back = await Route.open(b, a);
    const migration = await there.beginSlowly(options);
    await there.kill(what, end);
    say(await there.fails(migration));
    await guest.check(a);
    await there.reopen(what);
    for (const way of [there, back]) {
      await way.migrate(options, STREAM);
      await guest.check(way.to);
    }
  };

/** Slower than the guest writes: only post-copy brings such a migration to an end. */
const postcopy: Scene = async ({ a, b, guest }) => {
  await using there = await Route.open(a, b);
  await there.switchToPostcopy(await there.beginSlowly(['--postcopy']));
  await guest.check(b);
};

const withKeys = ({ work }: Stage): readonly string[] => {
  const folder = pskFolder(join(work, 'keys'), { qemu: randomBytes(32) });
  return ['--tls-creds', folder, '--provider', 'iwarp'];
};

export const SCENES: Readonly<Record<string, Scene>> = {
  live,
  'peer to peer': thereAndBack(['--p2p']),
  parallel: thereAndBack(['--p2p', '--parallel', '--parallel-connections', String(CHANNELS)], {
    streams: CHANNELS + 1,
    bytes: REGION_BYTES,
  }),
  'TLS in the tunnel': thereAndBack(['--p2p'], STREAM, withKeys),
  domjobabort: cancelled,
  "the tunnel's source end killed": killed('guest', 'source'),
  "the tunnel's destination end killed": killed('guest', 'destination'),
  "the tunnel of libvirt's connection killed": killed('libvirt', 'source', ['--p2p']),
};

/** What a QEMU may do without more rights only where the sysctl vm.unprivileged_userfaultfd is 1, which is the whole machine's. */
export const PRIVILEGED_SCENES: Readonly<Record<string, Scene>> = { 'post-copy': postcopy };

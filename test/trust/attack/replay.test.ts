/** What somebody has recorded of one migration, said again to another. */
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MigrationDestination, MigrationError, MigrationSource } from '../../../lib/index.ts';
import { outcome } from '../../support/endings.ts';
import { MemoryTarget } from '../../support/memory-vm.ts';
import { PATIENCE_MS } from '../../support/patience.ts';
import { byUnits, type Conversation, portOf, TcpProxy, type Towards } from '../../support/tcp-proxy.ts';
import { unitsOf } from '../../support/wire-units.ts';
import { attack } from './attack.ts';
import { SecretVm } from './secret-vm.ts';
import { psk, type Way, way, x509 } from './ways.ts';

const PAGES = 16;
const WAYS = [way('x509', x509(), 2), way('a shared key', psk(), 2)] as const;
const LIMITS = {
  provider: 'iwarp',
  connectTimeoutMs: PATIENCE_MS,
  responseTimeoutMs: 2 * PATIENCE_MS,
} as const;
/** A peer that says nothing more. */
const SILENCE_MS = 300;

/** Plays one end of a conversation over a socket: each word when the other end has said about as much as then. */
async function say(socket: Socket, conversation: Conversation, as: Towards): Promise<Buffer> {
  const heard: Buffer[] = [];
  let over = false;
  const closed = new Promise<true>((resolve) => {
    socket.on('close', () => {
      over = true;
      resolve(true);
    });
  });
  socket.on('data', (bytes) => heard.push(bytes));
  socket.on('error', () => {});
  let due = 0;
  for (const { towards, bytes } of conversation.said) {
    if (towards !== as) {
      due += bytes.length;
      continue;
    }
    // Signatures differ in length, and a peer that is not fooled falls silent.
    const soon = performance.now() + SILENCE_MS;
    while (!over && Buffer.concat(heard).length < due && performance.now() < soon) await delay(2);
    if (over) break;
    socket.write(bytes);
  }
  socket.end();
  if (!(await Promise.race([closed, delay(5 * PATIENCE_MS, false)])))
    throw new Error('whoever was told an old story did not hang up');
  return Buffer.concat(heard);
}

async function recorded(vm: SecretVm, way: Way): Promise<readonly Conversation[]> {
  const { conversations, source } = await attack(vm, way, () => undefined);
  expect(source).toMatchObject({ outcome: 'committed' });
  return conversations;
}

/** A destination, somebody who plays to it, and then an honest source. Who was refused, and why. */
async function withstands(
  vm: SecretVm,
  { source, destination }: Way,
  play: (port: number) => Promise<void>,
): Promise<readonly string[]> {
  await using target = new MemoryTarget();
  await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    ...LIMITS,
    ...destination,
  });
  const refusals: string[] = [];
  waiting.on('notice', (message, { code }) => {
    if (code === 'PEER_REFUSED') refusals.push(message);
  });
  const received = outcome(waiting.receive());
  await play(portOf(waiting.uri));
  const sent = await outcome(new MigrationSource(vm.source, waiting.uri, { ...LIMITS, ...source }).migrate());
  expect(sent).toMatchObject({ outcome: 'committed' });
  expect(await received).toMatchObject({ outcome: 'committed' });
  expect(await vm.isIn(target.blocks)).toBe(true);
  return refusals;
}

describe.each(WAYS.map((each) => [each.name, each] as const))('with %s', (_, way) => {
  it.each([
    ['the messages', 0, /refused .*TLS|refused .*peer/i],
    ['a rail', 1, /refused .*channel/],
  ])(
    '%s of a source are refused by the next destination, which waits on',
    async (_what, connection, reason) => {
      await using vm = await SecretVm.create(PAGES);
      const conversation = (await recorded(vm, way))[connection] as Conversation;
      const refusals = await withstands(vm, way, async (port) => {
        await say(createConnection({ port, host: '127.0.0.1' }), conversation, 'destination');
      });
      expect(refusals).toEqual([expect.stringMatching(reason)]);
    },
  );

  it('what a destination has said does not make a source go on', async () => {
    await using vm = await SecretVm.create(PAGES);
    const [conversation] = await recorded(vm, way);
    if (!conversation) throw new Error('nothing was recorded');
    let heard: Promise<Buffer> | undefined;
    const server = createServer((socket) => {
      heard ??= say(socket, conversation, 'source');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const source = new MigrationSource(vm.source, `rdma:127.0.0.1:${port}`, { ...LIMITS, ...way.source });
    const error = await outcome(source.migrate());
    expect(error).toBeInstanceOf(MigrationError);
    expect(['TLS_FAILED', 'TIMEOUT']).toContain((error as MigrationError).code);
    // It has shown nothing but its part of a handshake.
    const { units } = unitsOf((await heard) as Buffer);
    expect(new Set(units.map(({ kind }) => kind))).toEqual(new Set(['mpa', 'fpdu']));
    server.close();
  });

  it('who takes a rail’s token from the wire gets a connection that carries nothing', async () => {
    await using vm = await SecretVm.create(PAGES);
    await using target = new MemoryTarget();
    await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      ...LIMITS,
      ...way.destination,
    });
    const received = outcome(waiting.receive());
    const port = portOf(waiting.uri);
    let thief: Socket | undefined;
    // It is faster than the source: the rail itself comes when the thief has been there.
    await using proxy = await TcpProxy.open(port, (connection, towards) =>
      connection === 1 && towards === 'destination'
        ? byUnits((unit) => {
            if (unit.kind !== 'mpa') return unit.bytes;
            thief = createConnection({ port, host: '127.0.0.1' });
            thief.on('error', () => {});
            thief.write(Buffer.concat([unit.bytes, Buffer.from('1703030100', 'hex'), Buffer.alloc(0x100)]));
            return Buffer.alloc(0);
          })
        : undefined,
    );
    const sent = await outcome(
      new MigrationSource(vm.source, proxy.uri, { ...LIMITS, ...way.source }).migrate(),
    );
    const there = await received;
    expect(thief).toBeDefined();
    thief?.destroy();
    if (there instanceof MigrationError) {
      expect(sent).toBeInstanceOf(MigrationError);
    } else {
      expect([sent, await vm.isIn(target.blocks)]).toEqual([
        expect.objectContaining({ outcome: 'committed' }),
        true,
      ]);
    }
  });
});

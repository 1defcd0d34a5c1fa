import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { GateProxy } from '../support/gate-proxy.ts';
import { seededRandom } from '../support/seed.ts';
import { brokenBy, Ends, noise, readAll, sha } from './ends.ts';

const RING = 65_536;

describe.each(['unix', 'tcp'] as const)('a stream between %s sockets', (local) => {
  it('carries bytes both ways at once, many times the ring, and its ends', async () => {
    await using ends = await Ends.open({
      local,
      source: { ringBytes: RING },
      destination: { ringBytes: 2 * RING },
    });
    const [near, far] = await ends.pair();
    const [up, down] = [noise(3_000_001), noise(2_000_003)];
    near.end(up);
    far.end(down);
    const [atFar, atNear] = await Promise.all([readAll(far), readAll(near)]);
    expect([sha(atFar), sha(atNear)]).toEqual([sha(up), sha(down)]);
    const { error, sent, received } = await ends.told.source.end();
    expect({ error, sent, received }).toEqual({ error: undefined, sent: 3_000_001n, received: 2_000_003n });
    expect(await ends.told.destination.end()).toMatchObject({ sent: 2_000_003n, received: 3_000_001n });
  });

  it('lets one direction end and the other go on', async () => {
    await using ends = await Ends.open({ local });
    const [near, far] = await ends.pair();
    near.end('question');
    expect(String(await readAll(far))).toBe('question');
    far.write('first part ');
    await delay(50);
    far.end('second part');
    expect(String(await readAll(near))).toBe('first part second part');
    expect((await ends.told.destination.end()).error).toBeUndefined();
  });

  it('resets the other end when one is destroyed with bytes under way', async () => {
    await using ends = await Ends.open({
      local,
      source: { ringBytes: RING },
      destination: { ringBytes: RING },
    });
    const [near, far] = await ends.pair();
    near.write(Buffer.alloc(32_000_000)); // more than all buffers hold
    await once(far, 'readable');
    far.destroy();
    near.resume(); // it may see an end before its bytes are refused
    await new Promise((resolve) => near.once('close', resolve));
    expect(near.errored).not.toBeNull();
    expect((await ends.told.source.end()).error?.code).toBe('PEER_ERROR');
    expect((await ends.told.destination.end()).error?.code).toBe('PEER_ERROR');
  });
});

describe('a tunnel', () => {
  it('holds a writer back whose reader does not read', async () => {
    await using ends = await Ends.open({ source: { ringBytes: RING }, destination: { ringBytes: RING } });
    const [near, far] = await ends.pair();
    near.write(noise(64 * RING));
    await delay(200);
    expect(near.writableLength).toBeGreaterThan(0);
    const drained = once(near, 'drain');
    far.resume();
    await drained;
  });

  it('carries many streams side by side, in pieces of any size', async () => {
    const random = seededRandom('tunnel streams');
    await using ends = await Ends.open({ destination: { ringBytes: 2 * RING } });
    const streams = Array.from({ length: 12 }, async () => {
      const near = await ends.near();
      const bytes = noise(1 + Math.floor(random() * 500_000));
      for (let at = 0; at < bytes.length; ) {
        const length = 1 + Math.floor(random() ** 3 * 70_000);
        near.write(bytes.subarray(at, at + length));
        at += length;
        if (random() < 0.2) await delay(1);
      }
      near.end();
      return sha(Buffer.concat([bytes, await readAll(near)]));
    });
    const echoes = Array.from({ length: 12 }, async () => {
      const far = await ends.far();
      const bytes = await readAll(far);
      far.end(bytes.subarray(0, 10));
      return sha(Buffer.concat([bytes, bytes.subarray(0, 10)]));
    });
    const [sent, came] = [await Promise.all(streams), await Promise.all(echoes)];
    expect(sent.sort()).toEqual(came.sort());
    await ends.told.source.end(12);
  });

  it('reaches the far socket in the order in which local connections came', async () => {
    await using ends = await Ends.open();
    const nears = [await ends.near(), await ends.near(), await ends.near(), await ends.near()];
    for (const [index, near] of nears.entries()) near.end(String(index));
    const order = [];
    for (const _ of nears) order.push(String(await readAll(await ends.far())));
    expect(order).toEqual(['0', '1', '2', '3']);
  });

  it('goes on with other streams when one was reset', async () => {
    await using ends = await Ends.open({ local: 'tcp' });
    const [near, far] = await ends.pair();
    const [other, otherFar] = await ends.pair();
    near.resetAndDestroy();
    expect(await brokenBy(far)).toBe('ECONNRESET');
    other.end('still here');
    otherFar.end();
    expect(String(await readAll(otherFar))).toBe('still here');
  });

  it('refuses a local connection when the other end is not there, and serves the next', async () => {
    await using ends = await Ends.open();
    const uri = ends.destination.uri;
    await ends.destination.close();
    expect(uri).toMatch(/^rdma:/);
    const near = await ends.near();
    await brokenBy(near);
    expect((await ends.told.source.refusal()).code).toBe('CONNECTION_REFUSED');
  });

  it('says that nobody listens behind the other end', async () => {
    await using ends = await Ends.open();
    await ends.closeServer();
    await brokenBy(await ends.near());
    expect(await ends.told.source.refusal()).toMatchObject({
      code: 'CONNECTION_REFUSED',
      message: expect.stringContaining('--to'),
    });
    expect((await ends.told.destination.refusal()).message).toContain('cannot connect to unix:');
  });

  it('ends with once when the streams have, and cancels what runs when it is stopped', async () => {
    await using ends = await Ends.open({ source: { once: true }, destination: { once: true } });
    const [near, far] = await ends.pair();
    near.end();
    far.end('x');
    await Promise.all([readAll(far), readAll(near)]);
    await Promise.all([ends.source.serve(), ends.destination.serve()]);

    await using stopped = await Ends.open();
    const [nearer, further] = await stopped.pair();
    nearer.write('x');
    await once(further, 'readable');
    const stop = new AbortController();
    const serving = stopped.source.serve({ signal: stop.signal });
    stop.abort();
    await expect(serving).rejects.toMatchObject({ code: 'CANCELLED' });

    await brokenBy(nearer);

    expect((await stopped.told.destination.end()).error?.message).toContain('cancelled at the other end');
  });

  it('is heard to be cancelled behind bytes that are on their way still', async () => {
    let gate: GateProxy | undefined;
    await using ends = await Ends.open({
      source: { ringBytes: 512 * RING },
      destination: { ringBytes: 512 * RING },
      through: async (port) => {
        gate = await GateProxy.open(port);
        return gate.uri;
      },
    });
    await using held = gate as GateProxy | undefined;
    const [near, far] = await ends.pair();
    far.resume();
    held?.hold();
    near.write(noise(200 * RING)); // more than the sockets in between take
    await expect.poll(() => near.writableLength, { timeout: 20_000 }).toBe(0);
    const stopped = ends.source.close();
    await delay(100);
    held?.release();
    await stopped;
    const { error } = await ends.told.destination.end();
    expect(error).toMatchObject({ code: 'PEER_ERROR', message: expect.stringContaining('was cancelled') });
  });

  it('ends without an error when it is stopped while no stream runs', async () => {
    await using ends = await Ends.open();
    const stop = new AbortController();
    const serving = ends.destination.serve({ signal: stop.signal });
    stop.abort();
    await serving;
  });

  it('keeps quiet streams alive although an end is impatient', async () => {
    await using ends = await Ends.open({
      source: { responseTimeoutMs: 300 },
      destination: { responseTimeoutMs: 60_000 },
    });
    const [near, far] = await ends.pair();
    await delay(1_000);
    near.end('late');
    far.end();
    expect(String(await readAll(far))).toBe('late');
  });

  it('refuses options that make no sense', async () => {
    const wrong = Ends.open({ source: { ringBytes: 5_000 } });
    await expect(wrong).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

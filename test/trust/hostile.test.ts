/** Handshakes with somebody in between, with streams that come in pieces, and with peers that are none. */
import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { type Exporter, handshake, type Proven, type Trust } from '../../lib/trust/handshake.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import { credentialSets } from '../support/credentials.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { seededRandom } from '../support/seed.ts';
import { duplexPair } from './duplex-pair.ts';

const sets = credentialSets();
const EXPORTER: Exporter = { label: 'EXPERIMENTAL test', context: Buffer.alloc(32), length: 32 };

/** What passes by on the way to one end. */
type Passing = (bytes: Buffer) => Buffer;

/** A stream whose incoming bytes somebody has had in hand. */
function through(end: Duplex, passing: Passing, piece = Number.POSITIVE_INFINITY): Duplex {
  const outer = new Duplex({
    read() {},
    write: (chunk, _, done) => void end.write(chunk, () => done()),
    destroy: (error, done) => {
      end.destroy();
      done(error);
    },
  });
  end.on('data', (bytes: Buffer) => {
    const passed = passing(bytes);
    for (let at = 0; at < passed.length; at += piece) outer.push(passed.subarray(at, at + piece));
  });
  end.on('end', () => outer.push(null));
  return outer;
}

interface Between {
  readonly toServer?: Passing;
  readonly toClient?: Passing;
  readonly piece?: number;
}

async function both(folder: string, { toServer, toClient, piece }: Between) {
  const [serverEnd, clientEnd] = duplexPair();
  const same: Passing = (bytes) => bytes;
  const run = async (role: Trust['role'], end: Duplex): Promise<Proven | MigrationError> => {
    const trust = { role, credentials: await loadCredentials(folder, role), hostname: 'server.example' };
    return handshake(end, trust, EXPORTER, { timeoutMs: PATIENCE_MS }).catch(
      (error: MigrationError) => error,
    );
  };
  return Promise.all([
    run('server', through(serverEnd, toServer ?? same, piece)),
    run('client', through(clientEnd, toClient ?? same, piece)),
  ]);
}

/** Changes the byte at that place of all that passes. */
function changing(place: number, by: number): Passing {
  let passed = 0;
  return (bytes) => {
    const at = place - passed;
    passed += bytes.length;
    if (at < 0 || at >= bytes.length) return bytes;
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] as number) ^ by;
    return changed;
  };
}

describe('a handshake', () => {
  it.each([1, 7, 100])('goes through in pieces of %i bytes', async (piece) => {
    for (const folder of [sets.good, sets.psk]) {
      const ends = await both(folder, { piece });
      for (const end of ends) expect(end).not.toBeInstanceOf(MigrationError);
    }
  });

  it.each(['good', 'psk'] as const)(
    'of which any byte was changed fails in good order, or has not been harmed (%s)',
    async (name) => {
      const random = seededRandom(`changed handshakes, ${name}`);
      const once = async (): Promise<void> => {
        const way = random() < 0.5 ? 'toServer' : 'toClient';
        const place = Math.floor(random() ** 2 * 1500);
        const passing = changing(place, 1 << Math.floor(random() * 8));
        const [server, client] = await both(sets[name], { [way]: passing });
        const proven = [server, client].filter((end): end is Proven => !(end instanceof MigrationError));
        const codes = [server, client].flatMap((end) => (end instanceof MigrationError ? [end.code] : []));
        for (const code of codes)
          expect(['TLS_FAILED', 'TIMEOUT', 'PROTOCOL_ERROR'], `${way} ${place}`).toContain(code);
        if (proven.length === 2) expect(proven[0]?.keyingMaterial).toEqual(proven[1]?.keyingMaterial);
        if (!(client instanceof MigrationError) && name === 'good')
          expect(client.peer.names).toContain('DNS:server.example');
      };
      await Promise.all(Array.from({ length: 60 }, once));
    },
  );

  it('with random bytes fails', async () => {
    const random = seededRandom('random handshakes');
    const once = async (index: number): Promise<void> => {
      const [own, peer] = duplexPair();
      const role = index % 2 === 0 ? 'server' : 'client';
      const credentials = await loadCredentials(index % 4 < 2 ? sets.good : sets.psk, role);
      const end = handshake(own, { role, credentials, hostname: 'h' }, EXPORTER, { timeoutMs: PATIENCE_MS });
      const bytes = Buffer.from(
        Array.from({ length: 1 + Math.floor(random() * 400) }, () => Math.floor(random() * 256)),
      );
      // Half of them begin as a record does.
      if (index % 8 < 4) Buffer.from([22, 3, 3, 0, bytes.length & 0xff]).copy(bytes);
      peer.write(bytes);
      peer.resume();
      const error = await end.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(MigrationError);
      expect(['TLS_FAILED', 'TIMEOUT']).toContain((error as MigrationError).code);
    };
    await Promise.all(Array.from({ length: 80 }, (_, index) => once(index)));
  });
});

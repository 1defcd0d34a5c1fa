/** One migration of a QEMU with some capabilities on, into an image, over a socket of which only the first connection is read. */

import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { MigrationError } from '../../lib/errors.ts';
import { type FromQemuResult, fromQemu } from '../../lib/image/index.ts';
import { BareVm } from './bare-vm.ts';

export type Outcome =
  | { readonly end: 'image'; readonly result: FromQemuResult }
  | { readonly end: 'refused'; readonly error: MigrationError }
  /** QEMU itself does not do it. */
  | { readonly end: 'impossible'; readonly reason: string };

export async function attempt(
  folder: string,
  capabilities: readonly string[],
  more: readonly string[] = [],
): Promise<Outcome> {
  await using vm = await BareVm.start(more);
  try {
    await vm.switchOn(capabilities);
    return await viaSocket(vm, folder);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // Its pages have fixed places in a file.
    if (reason.includes('seekable')) return await viaFile(vm, folder);
    if (error instanceof MigrationError && error.code === 'PEER_ERROR') return { end: 'impossible', reason };
    throw error;
  }
}

async function viaSocket(vm: BareVm, folder: string): Promise<Outcome> {
  const path = join(folder, 'socket');
  const server = createServer();
  const sockets = new Set<Socket>();
  const main = mainChannel(server, sockets);
  server.listen(path);
  await once(server, 'listening');
  const read = new AbortController();
  try {
    await vm.execute('migrate', { uri: `unix:${path}` });
    const migrated = vm.migrated(read.signal);
    migrated.catch(() => undefined); // it is not always waited for
    const first = await Promise.race([main, migrated.then(() => undefined)]);
    if (first === undefined)
      return { end: 'impossible', reason: (await migrated)['error-desc'] ?? 'no connection' };
    const outcome = await outcomeOf(fromQemu(first, join(folder, 'vm')));
    if (outcome.end !== 'refused' || outcome.error.code !== 'STREAM_TRUNCATED') return outcome;
    // Cut short by QEMU itself, perhaps.
    const { status, 'error-desc': reason = 'no reason given' } = await migrated;
    return status === 'failed' ? { end: 'impossible', reason } : outcome;
  } finally {
    read.abort();
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** The first connection is the main channel; what others bring is thrown away, as by a listener that knows no others. */
function mainChannel(server: Server, sockets: Set<Socket>): Promise<Socket> {
  return new Promise((resolve) => {
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      if (sockets.size === 0) resolve(socket);
      else socket.resume();
      sockets.add(socket);
    });
  });
}

async function viaFile(vm: BareVm, folder: string): Promise<Outcome> {
  const path = join(folder, 'stream');
  await vm.execute('migrate', { uri: `file:${path}` });
  await vm.migrated(new AbortController().signal);
  return outcomeOf(fromQemu(createReadStream(path), join(folder, 'vm')));
}

async function outcomeOf(reading: Promise<FromQemuResult>): Promise<Outcome> {
  try {
    return { end: 'image', result: await reading };
  } catch (error) {
    if (error instanceof MigrationError) return { end: 'refused', error };
    throw error;
  }
}

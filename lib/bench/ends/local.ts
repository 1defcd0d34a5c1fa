import { fork } from 'node:child_process';
import { once } from 'node:events';
import { type ErrorCode, MigrationError } from '../../errors.ts';
import { native } from '../../native/index.ts';
import { formatRdmaUri } from '../../protocol/uri.ts';
import { unlessAborted, within } from '../../transport/wait.ts';

const START_MS = 30_000;
const END_MS = 3_000;

type Said = { readonly uri: string } | { readonly code?: ErrorCode; readonly message: string };

/** The listening end, a process of this machine. */
export interface LocalEnd extends AsyncDisposable {
  readonly uri: string;
}

/** @throws MigrationError what it could not listen for, TIMEOUT, CANCELLED */
export async function startLocalEnd(
  provider: 'iwarp' | 'verbs',
  signal: AbortSignal | undefined,
): Promise<LocalEnd> {
  const host = provider === 'verbs' ? await deviceAddress() : '127.0.0.1';
  const child = fork(new URL('child.js', import.meta.url), [provider, formatRdmaUri({ host, port: 0 })], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
  });
  const ended = once(child, 'exit');
  const close = async (): Promise<void> => {
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await ended;
    clearTimeout(timer);
  };
  try {
    const first = Promise.race([once(child, 'message'), ended.then(() => [gone])]);
    const waiting = { phase: 'listen', timeoutMs: START_MS, what: 'the other end to listen' } as const;
    const [said] = (await unlessAborted(within(first, waiting), signal, 'listen')) as [Said];
    if ('uri' in said) return { uri: said.uri, [Symbol.asyncDispose]: close };
    throw new MigrationError(
      said.code ?? 'INTERNAL',
      'listen',
      `the other end does not listen: ${said.message}`,
    );
  } catch (error) {
    await close();
    throw error;
  }
}

/** No device has 127.0.0.1. @throws MigrationError PROVIDER_UNAVAILABLE */
async function deviceAddress(): Promise<string> {
  const devices = await native.listDevices();
  const usable = devices.filter(({ problem }) => problem === '').flatMap(({ addresses }) => addresses);
  // those of a link alone need its name too
  const address = usable.find((one) => !/^fe80:/i.test(one)) ?? usable[0];
  if (address !== undefined) return address;
  throw new MigrationError(
    'PROVIDER_UNAVAILABLE',
    'configure',
    'no RDMA device of this machine has an address: see rdma-migrate doctor, or use --provider iwarp',
  );
}

const gone: Said = { message: 'its process has ended' };

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { type ErrorCode, MigrationError } from '../../errors.ts';
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
  const child = fork(new URL('child.js', import.meta.url), [provider], {
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

const gone: Said = { message: 'its process has ended' };

/** A QEMU by its QMP socket, and the process behind it. */
import { MigrationError } from '../errors.ts';
import { QmpClient } from '../qmp/client.ts';
import { connectUnix } from '../qmp/connect.ts';
import { peerProcess } from './process.ts';

const CONNECT_TIMEOUT_MS = 10_000;

/** A running QEMU that was found by its QMP socket. Disposing of it ends the connection, not QEMU. */
export interface ConnectedQemu extends AsyncDisposable {
  readonly qmp: QmpClient;
  readonly pid: number;
  readonly qmpSocket: string;
}

/**
 * @param options.pid the process, where the socket's listener is another one (a program that hands its socket over, as libvirt does)
 * @throws MigrationError what {@link QmpClient.connect} throws
 */
export async function connectQemu(
  qmpSocket: string,
  options: { readonly pid?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<ConnectedQemu> {
  const { signal } = options;
  const limits = { phase: 'connect', what: 'connection', timeoutMs: CONNECT_TIMEOUT_MS, signal } as const;
  const socket = await connectUnix(qmpSocket, limits);
  let pid: number;
  try {
    pid = options.pid ?? peerProcess(socket);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  const qmp = await QmpClient.connect({ socket, ...(signal && { signal }) });
  if (pid > 0) return { qmp, pid, qmpSocket, [Symbol.asyncDispose]: () => qmp.close() };
  await qmp.close();
  const message = `the process of QEMU is in another PID namespace than this command (${qmpSocket}): run this beside it, or name it with --pid`;
  throw new MigrationError('GUEST_ERROR', 'configure', message);
}

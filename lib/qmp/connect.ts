import { createConnection, type Socket } from 'node:net';
import { type ErrorCode, MigrationError } from '../errors.ts';
import { type WaitSubject, waitFor } from './wait.ts';

const codes: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'ADDRESS_NOT_FOUND',
  ECONNREFUSED: 'CONNECTION_REFUSED',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
};

function connectError(path: string, cause: NodeJS.ErrnoException): MigrationError {
  const code = codes[cause.code ?? ''] ?? 'CONNECT_FAILED';
  const message = `cannot reach QMP at ${path}: ${cause.message}. Start QEMU with -qmp unix:${path},server=on,wait=off`;
  return new MigrationError(code, 'connect', message, { cause, details: { path } });
}

/**
 * Opens a unix socket.
 *
 * @throws MigrationError `ADDRESS_NOT_FOUND`, `CONNECTION_REFUSED`, `PERMISSION_DENIED`, `CONNECT_FAILED`, `TIMEOUT`, `CANCELLED`.
 */
export async function connectUnix(path: string, subject: WaitSubject): Promise<Socket> {
  let socket: Socket | undefined;
  try {
    return await waitFor<Socket>(subject, (resolve, reject) => {
      const opened = createConnection({ path });
      socket = opened;
      opened.once('error', (cause) => reject(connectError(path, cause)));
      opened.once('connect', () => resolve(opened));
    });
  } catch (reason) {
    socket?.destroy();
    throw reason;
  }
}

/**
 * Linux's siw gives up a connection whose first message arrives together with the MPA reply, and a QEMU that listens speaks at once. Any peer
 * that connects to it from a siw device, even another QEMU, sometimes fails; we cannot prevent that. (Where our end
 * listens, it waits, and no such case is tried again.)
 */
const GIVEN_UP = /RDMA ERROR: connecting to destination|CONNECT_FAILED/;
const ATTEMPTS = 4;

/** For connections from a siw device to a QEMU that listens: starts again, with new QEMUs, if siw gave up the connection. */
export async function evenOnSiw<T>(
  work: () => Promise<T>,
  say: (note: string) => void = console.log,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const unlucky = process.env.RDMA_MIGRATE_VM_DEVICE === 'siw' && GIVEN_UP.test(String(error));
      if (!unlucky || attempt === ATTEMPTS) throw error;
      say(`note    siw gave up its connection to QEMU (attempt ${attempt} of ${ATTEMPTS}): ${error}`);
    }
  }
}

/**
 * Linux' siw gives up a connection whose first message arrives together with the MPA reply, and a QEMU that listens speaks at once. Whoever
 * connects to it from a siw device fails from time to time, another QEMU included; nothing of ours can help that. (Where ours
 * listens it waits, and no case with ours as the listener is tried again.)
 */
const GIVEN_UP = /RDMA ERROR: connecting to destination|CONNECT_FAILED/;
const ATTEMPTS = 4;

/** For what connects from a siw device to a QEMU that listens: begins anew, with QEMUs of its own, when siw gave the connection up. */
export async function evenOnSiw<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const unlucky = process.env.RDMA_MIGRATE_VM_DEVICE === 'siw' && GIVEN_UP.test(String(error));
      if (!unlucky || attempt === ATTEMPTS) throw error;
      console.log(`note    siw gave up its connection to QEMU (attempt ${attempt} of ${ATTEMPTS}): ${error}`);
    }
  }
}

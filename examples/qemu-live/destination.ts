/** The second process: what would run on the other host. It receives one running VM into a waiting QEMU, and lets the guest go on. */
import { MigrationDestination, QmpClient } from 'rdma-migrate';
import { serveParent } from '../destination/serve.ts';
import { IncomingVm } from './incoming.ts';

/** Take one VM from rdma: into a waiting QEMU, and let it run there. */
export interface DestinationJob {
  /** QMP socket of the waiting QEMU. */
  readonly qmpSocket: string;
  readonly ramFiles: Readonly<Record<string, string>>;
  /** An existing folder for a socket. */
  readonly folder: string;
  readonly uri: string;
}

/** `pc.ram` begins at guest-physical address 0. */
const GUEST_ADDRESSES = { 'pc.ram': 0n } as const;

serveParent<DestinationJob>(async ({ qmpSocket, ramFiles, folder, uri }, listening, signal) => {
  await using qmp = await QmpClient.connect({ socket: qmpSocket });
  await using vm = await IncomingVm.open({ qmp, ramFiles, guestAddresses: GUEST_ADDRESSES, folder });
  await using destination = await MigrationDestination.listen(uri, vm);
  listening(destination.uri);
  const result = await destination.receive({ signal });
  await vm.run();
  return result;
});

/** The second process of the demo: what would run on the other host. It receives one VM and keeps it as an image. */
import { ImageWriter, MigrationDestination } from 'rdma-migrate';
import { serveParent } from '../destination/serve.ts';

/** Wait at a free port of this machine for one VM and keep it as an image. */
export interface ReceiverJob {
  /** Absolute path of the image to make. */
  readonly image: string;
  /** Where to put RAM blocks that belong outside the image. */
  readonly ramFiles: Readonly<Record<string, string>>;
  readonly crc: boolean;
}

serveParent<ReceiverJob>(async ({ image, ramFiles, crc }, listening, signal) => {
  await using writer = await ImageWriter.open(image, { ramFiles });
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', writer, { crc });
  listening(destination.uri);
  return await destination.receive({ signal });
});

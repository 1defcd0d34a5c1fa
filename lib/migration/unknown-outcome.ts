/** What a failure says from which nobody knows who has the VM: which migration it was, so that the two sides can be compared (docs/errors.md). */
import { MigrationError } from '../errors.ts';

/** The error itself unless it is COMMIT_UNKNOWN; that with the migration's id, in its words and as `details.migrationId`. */
export function namingMigration(error: MigrationError, migrationId: string): MigrationError {
  const { code, phase, message, details, cause } = error;
  if (code !== 'COMMIT_UNKNOWN' || details.migrationId !== undefined) return error;
  const said = `${message.replace(/[.]$/, '')}. This is migration ${migrationId}: rdma-migrate image inspect shows the id of the one that wrote an image`;
  return new MigrationError(code, phase, said, {
    cause: cause ?? error,
    details: { ...details, migrationId },
  });
}

import { MigrationError } from '../errors.ts';

/** This end's own credentials cannot be used. */
export const badCredentials = (message: string, cause?: unknown): MigrationError =>
  new MigrationError('CREDENTIALS_INVALID', 'configure', message, cause === undefined ? {} : { cause });

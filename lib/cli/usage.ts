/** Errors of the command line. */
import type { CommanderError } from 'commander';
import { MigrationError } from '../errors.ts';
import type { OutputOptions } from './output.ts';
import type { ReceiveOptions } from './program.ts';

/** What commander says, in our form. */
export function usageError(error: CommanderError): MigrationError {
  const said =
    error.code === 'commander.help' ? 'no command was given' : error.message.replace(/^error: /, '');
  return new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `${said.replace(/\.$/, '')}. See rdma-migrate --help, or --help of the command`,
    { cause: error },
  );
}

/** @throws MigrationError INVALID_ARGUMENT: both the stream and the events would be on stdout */
export function refuseJsonWithData(file: string, { json }: OutputOptions): void {
  if (file !== '-' || !json) return;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    'with FILE - the stream goes to stdout, where the lines of --json would go too: name a file, or leave --json out',
  );
}

/** @throws MigrationError INVALID_ARGUMENT: the URI stands where the image belongs */
export function refuseSwapped(image: string, uri: string): void {
  if (!/^rdma:/i.test(image) || /^rdma:/i.test(uri)) return;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `${image} stands where the image belongs, and ${uri} where the URI does: did you swap them? Try rdma-migrate send ${uri} ${image}`,
  );
}

/** @throws MigrationError INVALID_ARGUMENT: nobody says where the VM goes, or an option is for a service and this is none */
export function refuseHomeless({ image, keep, ...options }: ReceiveOptions): void {
  if (keep !== undefined) return;
  const said = [
    ...(options.maxMigrations === undefined ? [] : ['--max-migrations']),
    ...(options.overcommitDisk ? ['--overcommit-disk'] : []),
    ...(options.onTerm === undefined ? [] : ['--on-term']),
    ...(options.drainTimeout === undefined ? [] : ['--drain-timeout']),
  ];
  if (image !== undefined && said.length === 0) return;
  const message =
    image === undefined
      ? 'where is the VM to be kept? Name an image to create (--image DIR), or a folder for many (--keep DIR)'
      : `${said[0]} is for a service: receive into a folder (--keep DIR), or leave it out`;
  throw new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

import { MigrationError } from '../errors.ts';
import { ImageWriter } from '../image/index.ts';
import { MigrationDestination } from '../migration/destination/destination.ts';
import { checkDestinationOptions } from '../migration/option-schema.ts';
import { endOptions } from './end-options.ts';
import { follow } from './follow.ts';
import { noticeLeftovers } from './image-clean.ts';
import { migrationSummary } from './migration-view.ts';
import type { ReceiveOptions } from './program.ts';
import { receiverOptions } from './receiver-options.ts';
import type { CommandContext } from './run.ts';
import { openPage } from './web.ts';
import { ON_COMMAND_LINE } from './wording.ts';

/** `rdma-migrate receive`: waits for one VM and keeps it as an image. */
export async function receive(
  context: CommandContext,
  uri: string,
  image: string,
  options: ReceiveOptions,
): Promise<void> {
  const { reporter } = context;
  const wanted = { ...endOptions(options), ...receiverOptions(options) };
  checkDestinationOptions(wanted, ON_COMMAND_LINE);
  await using page = await openPage(context, options);
  const { ramFile: ramFiles, digests } = options;
  await using writer = await ImageWriter.open(image, { ramFiles, digests, continues: true });
  for (const path of writer.removedPartials) reporter.notice(`removed ${path}, left by a receive that died`);
  if (writer.abandoned !== undefined)
    reporter.notice(
      `a receive that died has left RAM in ${writer.abandoned}: send --continue goes on from it, any other source takes its place`,
    );
  await noticeLeftovers(reporter, image);
  context.onFailure(`nothing was kept: there is no image ${image}`);
  await using destination = await MigrationDestination.listen(uri, writer, wanted);
  reporter.listening(destination.uri);
  const deadline = new SourceDeadline(destination, options.timeout);
  const shown = page.show(destination, `${image} at ${destination.uri}`);
  const result = await follow(destination, reporter, () =>
    destination.receive({ signal: AbortSignal.any([shown, deadline.signal]) }),
  );
  reporter.completed({ ...result, image: writer.path }, migrationSummary('received', image, result));
}

/** Ends the wait for a source, not a migration that has begun. */
export class SourceDeadline {
  readonly #controller = new AbortController();

  constructor(destination: MigrationDestination, milliseconds: number | undefined) {
    if (milliseconds === undefined) return;
    const timer = setTimeout(
      () => this.#controller.abort(noSource(milliseconds, destination.strangers)),
      milliseconds,
    );
    const clear = (): void => clearTimeout(timer);
    destination.once('end', clear);
    destination.on('phase', (phase) => {
      if (phase === 'negotiate') clear();
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }
}

function noSource(milliseconds: number, strangers: string | undefined): MigrationError {
  const seconds = milliseconds / 1000;
  const message =
    strangers === undefined
      ? `no source has begun a migration within ${seconds} s. Start the source, check its address and port and the firewall between, or wait longer (--timeout)`
      : `no source has begun a migration within ${seconds} s, though somebody did: ${strangers}. Let the source migrate to rdma:host:port, or wait longer (--timeout)`;
  return new MigrationError('TIMEOUT', 'listen', message, { details: { timeoutMs: milliseconds } });
}

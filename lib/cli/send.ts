import { Departure, openImage } from '../image/index.ts';
import { checkSourceOptions } from '../migration/option-schema.ts';
import type { SourceOptions } from '../migration/options.ts';
import { MigrationSource } from '../migration/source/source.ts';
import { connectOptions } from './connect-options.ts';
import { endOptions } from './end-options.ts';
import { follow } from './follow.ts';
import { formatBytes } from './format.ts';
import { migrationSummary } from './migration-view.ts';
import type { SendOptions } from './program.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';
import { openPage } from './web.ts';
import { ON_COMMAND_LINE } from './wording.ts';

/** `rdma-migrate send`: sends an image to a waiting destination. */
export async function send(
  context: CommandContext,
  image: string,
  uri: string,
  options: SendOptions,
): Promise<void> {
  const { reporter, signal } = context;
  const wanted = sourceOptions(options);
  checkSourceOptions(wanted, ON_COMMAND_LINE);
  await using page = await openPage(context, options);
  const placement = options.ramFile === undefined ? {} : { ramFiles: options.ramFile };
  await using vm = await openImage(image, { signal, ...placement });
  const total = vm.blocks.reduce((sum, { length }) => sum + length, 0n);
  await using departure = await Departure.of(vm, {
    to: uri,
    again: options.again ?? false,
    onUnmarked: ({ message }) => reporter.notice(`the image does not say that it was sent: ${message}`),
  });
  const source = new MigrationSource(departure.vm, uri, wanted);
  reporter.started(
    `sending ${image} (${vm.layout.machine}, ${formatBytes(total)} of RAM in ${vm.blocks.length} ${vm.blocks.length === 1 ? 'block' : 'blocks'}) to ${uri}, migration ${source.migrationId}`,
    { uri, migrationId: source.migrationId },
  );
  context.onFailure(`the image ${image} is as it was: it can be sent again`);
  // What the mark says goes by the migration alone, whatever becomes of those who watch it.
  const shown = page.show(source, `${image} to ${uri}`);
  const result = await follow(source, reporter, () =>
    departure.during(() => source.migrate({ signal: shown })),
  );
  reporter.completed({ ...result, image: vm.path }, migrationSummary('sent', image, result));
}

function sourceOptions(options: SendOptions): SourceOptions {
  const { pinAll, maxBandwidth, verify, continue: continues } = options;
  return {
    ...endOptions(options),
    ...connectOptions(options),
    ...tlsOptions(options),
    ...(pinAll !== undefined && { pinAll }),
    ...(maxBandwidth !== undefined && { maxBandwidth }),
    ...(verify !== undefined && { verify }),
    ...(continues !== undefined && { continue: continues }),
  };
}

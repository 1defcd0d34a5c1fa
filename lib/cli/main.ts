#!/usr/bin/env node
/** The `rdma-migrate` command. What each command needs is loaded when it runs: --help, --version and doctor work without the addon. */
import { CommanderError } from 'commander';
import { toolVersion } from '../image/tool.ts';
import { parseRdmaUri } from '../protocol/uri.ts';
import { EXIT } from './exit-codes.ts';
import { draining } from './keep/draining.ts';
import { createReporter, survivesClosedOutput } from './output.ts';
import { type Actions, buildProgram } from './program.ts';
import { runCommand } from './run.ts';
import { refuseHomeless, refuseJsonWithData, refuseSwapped, usageError } from './usage.ts';

const actions: Actions = {
  receive: (uri, options) => {
    const { image, keep } = options;
    return runCommand({ ...options, ...(keep && { stopping: draining(options) }) }, async (context) => {
      parseRdmaUri(uri);
      refuseHomeless(options);
      if (keep) await (await import('./keep/keep.ts')).receiveIntoFolder(context, uri, keep, options);
      else await (await import('./receive.ts')).receive(context, uri, image as string, options);
    });
  },
  send: (image, uri, options) =>
    runCommand(options, async (context) => {
      refuseSwapped(image, uri);
      parseRdmaUri(uri);
      await (await import('./send.ts')).send(context, image, uri, options);
    }),
  inspect: (image, options) =>
    runCommand(options, async () => (await import('./image-inspect.ts')).imageInspect(image, options)),
  verify: (image, options) =>
    runCommand(options, async (context) => {
      await (await import('./image-verify.ts')).imageVerify(context, image, options);
    }),
  toQemu: (image, file, options) =>
    runCommand({ ...options, stdoutIsData: file === '-' }, async (context) => {
      refuseJsonWithData(file, options);
      await (await import('./image-to-qemu.ts')).imageToQemu(context, image, file, options);
    }),
  fromQemu: (file, image, options) =>
    runCommand(options, async (context) => {
      await (await import('./image-from-qemu.ts')).imageFromQemu(context, file, image, options);
    }),
  clean: (folder, options) =>
    runCommand(options, async (context) => {
      await (await import('./image-clean.ts')).imageClean(context, folder, options);
    }),
  doctor: (options) =>
    runCommand(options, async (context) => (await import('./doctor.ts')).doctor(context, options)),
  completion: (script) => void process.stdout.write(script),
  qemuMove: (uri, options) =>
    runCommand(options, async (context) => {
      parseRdmaUri(uri);
      await (await import('./qemu-move.ts')).qemuMove(context, uri, options);
    }),
  qemuReceive: (uri, command, options) =>
    runCommand(options, async (context) => {
      parseRdmaUri(uri);
      await (await import('./qemu-receive.ts')).qemuReceive(context, uri, command, options);
    }),
  qemuStatus: (id, uri, options) =>
    runCommand(options, async (context) =>
      (await import('./qemu-status.ts')).qemuStatus(context, id, uri, options),
    ),
  bench: (uri, options) =>
    runCommand(options, async (context) => (await import('./bench.ts')).bench(context, uri, options)),
  tunnel: (uri, options) =>
    runCommand({ ...options, stdoutIsData: (options.listen ?? options.to) === '-' }, async (context) => {
      refuseJsonWithData(options.listen ?? options.to ?? '', options);
      await (await import('./tunnel.ts')).tunnel(context, uri, options);
    }),
  watch: (address, options) =>
    runCommand(options, async (context) => (await import('./watch.ts')).watch(context, address, options)),
};

async function main(argv: readonly string[]): Promise<void> {
  survivesClosedOutput();
  const program = buildProgram(actions, await toolVersion());
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // --help and --version end with 0 and have been written.
    if (error.exitCode === 0) return;
    const json = argv.includes('--json');
    createReporter({ json }).failed({ error: usageError(error), exitCode: EXIT.usage, left: undefined });
    process.exitCode = EXIT.usage;
  }
}

await main(process.argv);

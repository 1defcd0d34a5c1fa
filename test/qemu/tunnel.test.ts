/** Stock QEMUs with private RAM that migrate through the command, as an operator would. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildCommand, type CommandFolder } from '../cli/command.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';
import { Tunnelled } from './tunnelled.ts';

describeWithQemu('a stock QEMU through the tunnel', { ramBytes: 64 * MIB, regionBytes: 8 * MIB }, (vms) => {
  let command: CommandFolder;
  beforeAll(async () => {
    command = await buildCommand();
  });
  afterAll(() => command?.[Symbol.asyncDispose]());

  it('migrates', async () => {
    await using pair = await Tunnelled.start(vms.kernel, command);
    await pair.source.execute('migrate', { uri: pair.from });
    expect(await pair.ended()).toBe('completed');
    await pair.passes('destination');
  });

  it('migrates with multifd, in five streams', async () => {
    const multifd = { capabilities: ['multifd'], parameters: { 'multifd-channels': 4 } };
    await using pair = await Tunnelled.start(vms.kernel, command, multifd);
    await pair.source.execute('migrate', { uri: pair.from });
    expect(await pair.ended()).toBe('completed');
    await pair.passes('destination');
    await pair.ends.source.waitForMessage(/stream 5 opened/);
  });

  it('migrates with post-copy, which needs the way back', async () => {
    await using pair = await Tunnelled.start(vms.kernel, command, {
      capabilities: ['postcopy-ram', 'return-path'],
    });
    await pair.beginSlowly();
    await pair.source.execute('migrate-start-postcopy');
    expect(await pair.ended()).toBe('completed');
    await pair.passes('destination');
  });

  it('lets QEMU start the source end, with exec:', async () => {
    await using pair = await Tunnelled.start(vms.kernel, command);
    const line = `exec ${process.execPath} ${command.main} tunnel --listen - ${pair.uri} 2>/dev/null`;
    await pair.source.execute('migrate', { uri: `exec:${line}` });
    expect(await pair.ended()).toBe('completed');
    await pair.passes('destination');
  });

  it.each(['source', 'destination'] as const)(
    'leaves the guest to the source when the %s end is killed',
    async (end) => {
      await using pair = await Tunnelled.start(vms.kernel, command);
      await pair.beginSlowly();
      pair.ends[end].kill('SIGKILL');
      expect(await pair.ended()).toBe('failed');
      await pair.passes('source');
    },
  );

  it('leaves the guest to the source when the other end is stopped', async () => {
    await using pair = await Tunnelled.start(vms.kernel, command, { options: ['--response-timeout', '1'] });
    await pair.beginSlowly();
    pair.ends.destination.kill('SIGSTOP');
    expect(await pair.ended()).toBe('failed');
    await pair.passes('source');
    await pair.ends.source.waitForMessage(/stream 1 was reset: .*\((TIMEOUT|CONNECTION_LOST)\)/);
  });

  it('lets QEMU cancel, and migrate again', async () => {
    await using pair = await Tunnelled.start(vms.kernel, command);
    await pair.beginSlowly();
    await pair.source.execute('migrate_cancel');
    expect(await pair.ended()).toBe('cancelled');
    await pair.passes('source');
    await pair.ends.destination.waitForMessage(/stream 1 /);
    await using _ = await pair.another('again');
    await pair.source.execute('migrate-set-parameters', { 'max-bandwidth': 0 });
    await pair.source.execute('migrate', { uri: pair.from });
    expect(await pair.ended()).toBe('completed');
    await pair.passes('again');
  });
});

/** A MigrationService among sources, targets and listeners that are broken: each harms its own migration, and nobody else's. */
import { describe, expect, it } from 'vitest';
import {
  type MigrationDestination,
  MigrationError,
  MigrationService,
  MigrationSource,
  type OpenServiceTarget,
  type ServiceOptions,
  type ServiceTarget,
} from '../../lib/index.ts';
import { MemoryTarget, MemoryVm, noise, peek, poke } from '../support/memory-vm.ts';

const RAM = 1n << 20n;
const CONTENT = noise(RAM);

/** In memory, as many as are asked for. */
class Kept extends MemoryTarget implements ServiceTarget {
  closed = false;
  aborted = false;
  override async abort(): Promise<void> {
    this.aborted = true;
  }
  async close(): Promise<void> {
    this.closed = true;
    await this[Symbol.asyncDispose]();
  }
}

const vmWithContent = async (): Promise<MemoryVm> => {
  const vm = await MemoryVm.create({ 'pc.ram': RAM });
  await poke(vm.blocks[0] as never, 0n, CONTENT);
  return vm;
};

const serving = async (open: OpenServiceTarget, options: ServiceOptions = {}) => {
  const service = await MigrationService.listen('rdma:127.0.0.1:0', open, { ramIsFresh: true, ...options });
  return { service, ended: service.serve() };
};

async function send(service: MigrationService, vm: MemoryVm, id?: string): Promise<string> {
  await using source = new MigrationSource(vm, service.uri);
  if (id !== undefined) Object.defineProperty(source, 'migrationId', { value: id });
  const { migrationId } = await source.migrate();
  return migrationId;
}

const codeOf = (failed: Promise<unknown>): Promise<unknown> =>
  failed.then(
    () => 'none',
    (error: MigrationError) => error.details.peerCode ?? error.code,
  );

describe('a service', () => {
  it('tells a source that its target cannot be opened, of either kind, and serves the others beside it', async () => {
    await using vm = await vmWithContent();
    const kept = new Map<string, Kept>();
    const failures: unknown[] = [
      () => {
        throw new MigrationError('DISK_FULL', 'image', 'no room');
      },
      async () => ({ allocate: 'no function' }),
      async () => undefined,
    ];
    const { service, ended } = await serving(async ({ migrationId }) => {
      const fails = failures.shift() as (() => Promise<ServiceTarget>) | undefined;
      if (fails) return fails();
      const target = new Kept();
      // What came is looked at below, when it has ended.
      target.close = async () => {};
      kept.set(migrationId, target);
      return target;
    });
    const codes = [];
    for (let at = 0; at < 3; at++) codes.push(await codeOf(send(service, vm)));
    expect(codes).toEqual(['DISK_FULL', 'INVALID_ARGUMENT', 'INVALID_ARGUMENT']);
    const ids = await Promise.all([send(service, vm), send(service, vm)]);
    for (const id of ids) {
      const target = kept.get(id) as Kept;
      expect((await peek(target.blocks[0] as never, 0n, RAM)).equals(CONTENT)).toBe(true);
      await target[Symbol.asyncDispose]();
    }
    await service.close();
    await ended;
  });

  it('is not kept from its end by a target that is opened late: it is aborted and closed', async () => {
    await using vm = await vmWithContent();
    const late = new Kept();
    let opens: (target: Kept) => void = () => {};
    const { service, ended } = await serving(
      () =>
        new Promise((resolve) => {
          opens = resolve;
        }),
    );
    const begun = new Promise<MigrationDestination>((resolve) => service.once('migration', resolve));
    const sent = codeOf(send(service, vm));
    const migration = await begun;
    await new Promise<void>((resolve) =>
      migration.on('phase', (phase) => phase === 'negotiate' && resolve()),
    );
    service.drain('cancel');
    expect(await sent).toBe('CANCELLED');
    opens(late);
    await ended;
    expect([late.aborted, late.closed, service.underWay]).toEqual([true, true, 0]);
  });

  it('takes no second source that says to be a migration which is under way', async () => {
    await using vm = await vmWithContent();
    const id = '123e4567-e89b-12d3-a456-426614174000';
    const opened: string[] = [];
    let go: () => void = () => {};
    const gone = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { service, ended } = await serving(async ({ migrationId }) => {
      opened.push(migrationId);
      await gone;
      return new Kept();
    });
    const first = send(service, vm, id);
    await expect.poll(() => opened).toEqual([id]);
    expect(await codeOf(send(service, vm, id))).toBe('IMAGE_EXISTS');
    go();
    expect(await first).toBe(id);
    // Whether it may come again is the embedder's to say.
    await expect.poll(() => service.underWay).toBe(0);
    expect(await send(service, vm, id)).toBe(id);
    await service.close();
    await ended;
  });

  it('gives all that are under way no more RAM than is allowed, and what one gives back to the next', async () => {
    await using vm = await vmWithContent();
    let go: () => void = () => {};
    const gone = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { service, ended } = await serving(
      async () => {
        const target = new Kept();
        target.commit = () => gone;
        return target;
      },
      { maxRam: RAM + RAM / 2n },
    );
    const begun = new Promise<MigrationDestination>((resolve) => service.once('migration', resolve));
    const first = send(service, vm);
    const migration = await begun;
    await new Promise<void>((resolve) => migration.on('phase', (phase) => phase === 'commit' && resolve()));
    expect(await codeOf(send(service, vm))).toBe('OUT_OF_MEMORY');
    go();
    await first;
    await expect.poll(() => service.underWay).toBe(0);
    await send(service, vm);
    await service.close();
    await ended;
  });

  it('goes on whatever its listeners throw, and cancels at its signal', async () => {
    await using vm = await vmWithContent();
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', onWarning);
    const service = await MigrationService.listen('rdma:127.0.0.1:0', async () => new Kept(), {
      ramIsFresh: true,
    });
    service.on('migration', () => {
      throw new Error('a listener of the test');
    });
    const heard = new Promise<string>((resolve) => {
      service.on('migration', (_, { migrationId }) => resolve(migrationId));
    });
    const stop = new AbortController();
    const ended = service.serve({ signal: stop.signal });
    await expect(service.serve()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await send(service, vm)).toBe(await heard);
    stop.abort();
    await ended;
    process.off('warning', onWarning);
    expect(warnings).toEqual([expect.stringContaining('a listener of the test')]);
    expect(['CONNECTION_REFUSED', 'CONNECT_FAILED']).toContain(await codeOf(send(service, vm)));
  });

  it('asks for a function, and for options that it knows', async () => {
    const wrong = [
      MigrationService.listen('rdma:127.0.0.1:0', undefined as never),
      MigrationService.listen('rdma:127.0.0.1:0', async () => new Kept(), { maxMigrations: 0 }),
      MigrationService.listen('rdma:127.0.0.1:0', async () => new Kept(), { most: 1 } as never),
    ];
    for (const asked of wrong) await expect(asked).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

/** One MigrationDestination that receives into an image, observed: what it does to its target and what it leaves. */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  type DestinationOptions,
  type DestinationTarget,
  type ErrorCode,
  ImageWriter,
  MigrationDestination,
  MigrationError,
  type MigrationResult,
  type Phase,
} from '../../lib/index.ts';
import { withDeadline } from './raw-iwarp.ts';
import { SMALL_BLOCKS } from './small-vm.ts';
import { temporaryFolder } from './temp.ts';

const DEADLINE_MS = 15_000;

export interface Receiving extends AsyncDisposable {
  readonly destination: MigrationDestination;
  readonly port: number;
  /** Where the image appears. */
  readonly path: string;
  readonly result: Promise<MigrationResult>;
  readonly notices: readonly string[];
  readonly calls: readonly string[];
  /** The migration fails with this error and leaves nothing. */
  fails(code: ErrorCode | readonly ErrorCode[], phase: Phase | readonly Phase[]): Promise<MigrationError>;
}

interface Settings {
  /** Puts the ROM's file outside the image. Only for the small VM. Default true. */
  readonly external?: boolean;
  readonly folder?: string;
}

/** Listens and receives. `responseTimeoutMs` is shorter than the deadline of every wait here. */
export async function receiving(
  options: DestinationOptions = {},
  settings: Settings = {},
): Promise<Receiving> {
  const folder = await temporaryFolder('rdma-migrate-receive-');
  const images = settings.folder ?? join(folder.path, 'images');
  const outside = join(folder.path, 'outside');
  await mkdir(images, { recursive: true });
  await mkdir(outside);
  const ramFiles = settings.external === false ? {} : { [SMALL_BLOCKS[1].name]: join(outside, 'rom') };
  const path = join(images, 'vm');
  const writer = await ImageWriter.open(path, { ramFiles });
  const calls: string[] = [];
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', watched(writer, calls), {
    responseTimeoutMs: 5_000,
    connectTimeoutMs: 5_000,
    ...options,
  });
  const notices: string[] = [];
  destination.on('notice', (notice) => notices.push(notice));
  const result = destination.receive();
  result.catch(() => {});
  return {
    destination,
    port: Number(destination.uri.split(':').at(-1)),
    path,
    result,
    notices,
    calls,
    async fails(code, phase) {
      const error = await failureOf(result, 'the destination');
      expectError(error, code, phase);
      expect(calls.at(-1)).toBe('abort');
      expect(calls).not.toContain('commit done');
      expect(await readdir(images)).toEqual([]);
      expect(await readdir(outside)).toEqual([]);
      return error;
    },
    async [Symbol.asyncDispose]() {
      await withDeadline(destination.close(), 'close() of the destination', DEADLINE_MS);
      await writer.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** The error that a migration ends with. A hang shows as a missed deadline. */
export async function failureOf(result: Promise<MigrationResult>, who: string): Promise<MigrationError> {
  const failure = await withDeadline(
    result.then(
      () => undefined,
      (error: unknown) => error,
    ),
    `the failure of ${who}`,
    DEADLINE_MS,
  );
  expect(failure, `${who} must fail`).toBeInstanceOf(MigrationError);
  return failure as MigrationError;
}

export function expectError(
  error: MigrationError,
  code: ErrorCode | readonly ErrorCode[],
  phase: Phase | readonly Phase[],
): void {
  expect([code].flat(), error.message).toContain(error.code);
  expect([phase].flat(), `${error.code}: ${error.message}`).toContain(error.phase);
  expect(error.message.length).toBeGreaterThan(20);
}

function watched(target: DestinationTarget, calls: string[]): DestinationTarget {
  return {
    allocate: (vm) => {
      calls.push('allocate');
      return target.allocate(vm);
    },
    append: (bytes) => target.append(bytes),
    commit: async (arrival) => {
      calls.push('commit');
      await target.commit(arrival);
      calls.push('commit done');
    },
    abort: async () => {
      await target.abort();
      calls.push('abort');
    },
  };
}

/**
 * What became of migrations at their destination, kept in files: one for each migration, replaced in one step. What is written there outlives the process
 * that decided it.
 */
import { lstat, mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import { syncDirectory } from '../image/files.ts';
import { type OwnerState, ownerSchema, stateOf } from '../owner.ts';
import type { StatusWord } from '../protocol/status.ts';

const word = z.string().max(4096);
const schema = z.object({
  migrationId: word,
  /** Who decides. */
  receiver: ownerSchema,
  /** `receiving`: nothing is decided. `starting`: QEMU may have let the guest go on, and only the receiver can say. */
  state: z.enum(['receiving', 'starting', 'taken', 'not-taken']),
  /** Of the same host and PID namespace. */
  qemu: z.object({ pid: z.int().positive(), startTime: word, qmp: word }),
});

/** What one end knows of a migration, as it is on the disk. */
export type MigrationRecord = z.infer<typeof schema>;

/** What a record says, and what is left of its processes. `unknown`: another host, container or boot may still have them. */
export interface Judgement {
  readonly word: StatusWord;
  readonly record: MigrationRecord;
  readonly receiver: OwnerState;
  readonly qemu: OwnerState;
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Where records and sockets are if nobody says otherwise: RUNTIME_DIRECTORY as systemd gives it, /run for root, else the user's. */
export function defaultStateFolder(env: NodeJS.ProcessEnv = process.env): string {
  const { RUNTIME_DIRECTORY, XDG_RUNTIME_DIR } = env;
  if (RUNTIME_DIRECTORY) return RUNTIME_DIRECTORY.split(':')[0] as string;
  if (process.getuid?.() === 0) return '/run/rdma-migrate';
  return XDG_RUNTIME_DIR
    ? join(XDG_RUNTIME_DIR, 'rdma-migrate')
    : join(tmpdir(), `rdma-migrate-${process.getuid?.()}`);
}

/**
 * Makes it if it is not there. What is in it decides who has a guest: nobody else may write it.
 * @throws MigrationError PERMISSION_DENIED: others could; IO_ERROR
 */
export async function makeStateFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MigrationError('IO_ERROR', 'configure', `cannot make ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const { uid, mode } = await lstat(path);
  const ours = uid === process.getuid?.() || uid === 0;
  if (ours && (mode & 0o022) === 0) return;
  const message = `others may write ${path}: name another folder with --state-dir, or make it yours alone (chown, chmod 0700)`;
  throw new MigrationError('PERMISSION_DENIED', 'configure', message);
}

/** @throws MigrationError INVALID_ARGUMENT */
export function requireMigrationId(id: string): string {
  if (ID.test(id)) return id;
  const message = `expected the id of a migration, such as 6f1c1b1e-5b0e-4a6e-9a55-0f3c3f0a9d11, but received '${id.slice(0, 80)}'`;
  throw new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

/** The records in one folder. */
export class Records {
  readonly #folder: string;

  /** `stateFolder`: its folder `migrations` holds the records; see {@link defaultStateFolder}. */
  constructor(stateFolder: string) {
    this.#folder = join(stateFolder, 'migrations');
  }

  /** Returns when it is on the disk. @throws MigrationError IO_ERROR */
  async write(record: MigrationRecord): Promise<void> {
    const path = this.pathOf(record.migrationId);
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      const file = await open(`${path}.new`, 'w', 0o600);
      try {
        await file.writeFile(JSON.stringify(record));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.new`, path);
      await syncDirectory(this.#folder);
    } catch (cause) {
      const message = `cannot write down what becomes of the migration: ${(cause as Error).message}`;
      throw new MigrationError('IO_ERROR', 'commit', message, { cause });
    }
  }

  /** undefined: there is none. @throws MigrationError IO_ERROR: it cannot be read, and nothing follows from that */
  async read(migrationId: string): Promise<MigrationRecord | undefined> {
    const path = this.pathOf(migrationId);
    try {
      return schema.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new MigrationError('IO_ERROR', 'commit', `cannot read ${path}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  /**
   * What follows from a record. Only its receiver ever decides: once that has ended before the guest could go on, and its QEMU too, nothing has taken
   * the VM.
   * @returns undefined: there is no such record
   * @throws MigrationError IO_ERROR, and what looking for a process fails with: nothing follows from that
   */
  async judge(migrationId: string): Promise<Judgement | undefined> {
    for (let record = await this.read(migrationId); record; ) {
      const receiver = await this.#stateOf(record, record.receiver);
      const qemu = await this.#stateOf(record, { ...record.receiver, ...record.qemu });
      // The receiver may have decided, and gone, since the record was read.
      const newest = await this.read(migrationId);
      if (newest?.state === record.state)
        return { word: wordOf(record, receiver, qemu), record, receiver, qemu };
      record = newest;
    }
    return undefined;
  }

  /** What a source is told. */
  async word(migrationId: string): Promise<StatusWord> {
    return (await this.judge(migrationId))?.word ?? 'unknown';
  }

  #stateOf({ migrationId }: MigrationRecord, owner: MigrationRecord['receiver']): Promise<OwnerState> {
    return stateOf(owner, this.pathOf(migrationId));
  }

  /** Of all records that are there. */
  async ids(): Promise<string[]> {
    const names = await readdir(this.#folder).catch(() => []);
    return names.filter((name) => name.endsWith('.json')).flatMap((name) => ID.exec(name.slice(0, -5)) ?? []);
  }

  /** Paths of what a process that ended has not written to the end. */
  async unfinished(): Promise<string[]> {
    const names = await readdir(this.#folder).catch(() => []);
    return names.filter((name) => name.endsWith('.json.new')).map((name) => join(this.#folder, name));
  }

  /** @throws MigrationError INVALID_ARGUMENT */
  pathOf(migrationId: string): string {
    return join(this.#folder, `${requireMigrationId(migrationId)}.json`);
  }
}

function wordOf({ state }: MigrationRecord, receiver: OwnerState, qemu: OwnerState): StatusWord {
  // A guest that may have run for a while is not taken back to before that, even if nothing of it is there any more.
  if (state === 'starting') return 'undecided';
  if (state !== 'receiving') return state;
  return receiver === 'dead' && qemu === 'dead' ? 'not-taken' : 'undecided';
}

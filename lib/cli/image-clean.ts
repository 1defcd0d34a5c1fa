import { dirname, resolve } from 'node:path';
import { MigrationError, toMigrationError } from '../errors.ts';
import { findLeftovers, type Leftover, removeLeftover } from '../image/index.ts';
import { confirm } from './confirm.ts';
import { formatBytes } from './format.ts';
import type { CleanOptions } from './program.ts';
import type { Reporter } from './reporter.ts';
import type { CommandContext } from './run.ts';

/** More names than this make a line that nobody reads. */
const NAMED_AT_ONCE = 3;

/** `rdma-migrate image clean`: removes what killed receives and conversions left in a folder. */
export async function imageClean(
  { reporter, signal }: CommandContext,
  folder: string,
  options: CleanOptions,
): Promise<void> {
  const leftovers = await findLeftovers(folder);
  for (const leftover of leftovers) reporter.started(leftoverLine(leftover));
  const dead = leftovers.filter(({ owner }) => owner === 'dead');
  const wanted = await chosen(dead, options, signal);
  const removed: Leftover[] = [];
  let failure: MigrationError | undefined;
  for (const leftover of wanted) {
    // One that cannot be removed does not keep the others.
    const gone = await removeLeftover(leftover).catch((error: unknown) => {
      failure ??= toMigrationError(error, 'image');
      return false;
    });
    if (gone) removed.push(leftover);
  }
  const facts = report(resolve(folder), leftovers, removed);
  if (failure !== undefined) throw failure;
  reporter.completed(facts, [summary(facts, dead.length, options.dryRun ?? false)]);
}

/** Says at the start of a receive what is there to be cleared away. What a living process fills is none of it. */
export async function noticeLeftovers(reporter: Reporter, image: string): Promise<void> {
  const folder = dirname(resolve(image));
  const found = await findLeftovers(folder).catch(() => []);
  // Dead ones of this very name go by themselves.
  const idle = found.filter((left) =>
    left.image === resolve(image) ? left.owner === 'unknown' : left.owner !== 'alive',
  );
  if (idle.length === 0) return;
  const names = idle.slice(0, NAMED_AT_ONCE).map(({ path }) => path);
  const more = idle.length > names.length ? ` and ${idle.length - names.length} more` : '';
  reporter.notice(
    `unfinished, and not known to be in use: ${names.join(', ')}${more} (${formatBytes(total(idle))}). ` +
      `rdma-migrate image clean ${folder} removes what nobody is at`,
  );
}

async function chosen(
  dead: readonly Leftover[],
  { yes = false, dryRun = false, json = false }: CleanOptions,
  signal: AbortSignal,
): Promise<readonly Leftover[]> {
  if (dryRun || dead.length === 0) return [];
  if (yes) return dead;
  if (json || !process.stdin.isTTY || !process.stderr.isTTY) throw nobodyToAsk(dead.length);
  const question = `remove ${dead.length === 1 ? 'it' : `all ${dead.length}`} (${formatBytes(total(dead))})? [y/N] `;
  return (await confirm(question, signal)) ? dead : [];
}

interface Facts {
  readonly folder: string;
  readonly leftovers: readonly (Leftover & { readonly removed: boolean })[];
  /** Bytes. */
  readonly freed: bigint;
}

function report(folder: string, leftovers: readonly Leftover[], removed: readonly Leftover[]): Facts {
  const shown = leftovers.map((leftover) => ({ ...leftover, removed: removed.includes(leftover) }));
  return { folder, leftovers: shown, freed: total(removed) };
}

function summary({ folder, leftovers, freed }: Facts, dead: number, dryRun: boolean): string {
  const removed = leftovers.filter((leftover) => leftover.removed).length;
  if (leftovers.length === 0) return `nothing unfinished is in ${folder}`;
  if (removed > 0) return `removed ${removed} of ${leftovers.length}, ${formatBytes(freed)} freed`;
  return dryRun && dead > 0 ? `${dead} of ${leftovers.length} can be removed` : 'nothing was removed';
}

function leftoverLine({ path, owner, pid, bytes, modified, outside }: Leftover): string {
  const who = {
    dead: `left by process ${pid}, which is gone`,
    alive: `process ${pid} is at it: stays`,
    unknown:
      'may be in use by another host, container or user: stays. Remove it yourself if you know that it is not',
  }[owner];
  const elsewhere = outside.map((file) => `, with ${file}`).join('');
  const written = modified.toISOString().slice(0, 16).replace('T', ' ');
  return `${path}${elsewhere}: ${formatBytes(bytes)}, last written ${written} UTC, ${who}`;
}

function total(leftovers: readonly Leftover[]): bigint {
  return leftovers.reduce((sum, { bytes }) => sum + bytes, 0n);
}

function nobodyToAsk(count: number): MigrationError {
  const message = `${count} could be removed, and there is no terminal to ask at: add --yes to remove, or --dry-run to look only`;
  return new MigrationError('INVALID_ARGUMENT', 'configure', message);
}

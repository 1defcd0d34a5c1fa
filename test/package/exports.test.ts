/** What the package exports: every type that a caller must name, and nothing else. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { emitDeclarations, publicTypes } from './declarations.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-declarations-'));
  await emitDeclarations(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it.each([
  { entry: 'index.d.ts', some: ['MigrationSource', 'streamHeader', 'PageBitmap', 'Span'] },
  // Its callers have a migration's types of the package itself.
  { entry: 'qemu/index.d.ts', some: ['IncomingVm', 'OutgoingVm', 'connectQemu'], beside: 'index.d.ts' },
  { entry: 'tunnel/index.d.ts', some: ['TunnelSource', 'TunnelDestination', 'TunnelEvents'] },
  { entry: 'verbs/index.d.ts', some: ['Domain', 'QueuePair', 'MemoryRegion', 'Completion'] },
])(
  'exports every type that functions and classes of $entry name, and none that they do not',
  ({ entry, some, beside }: { entry: string; some: string[]; beside?: string }) => {
    const { missing, superfluous, exported } = publicTypes(folder, entry);
    const elsewhere = beside === undefined ? [] : publicTypes(folder, beside).exported;
    expect(missing.filter((line) => !elsewhere.includes(line.split(',')[0] ?? ''))).toEqual([]);
    expect(superfluous).toEqual([]);
    expect(exported.filter((name) => name.startsWith('Native'))).toEqual([]);
    expect(exported).toEqual(expect.arrayContaining(some));
  },
);

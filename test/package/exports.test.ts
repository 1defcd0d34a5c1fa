/** What the package exports: every type that a caller must name, and nothing else. */
import { expect, it } from 'vitest';
import { temporaryFolder } from '../support/temp.ts';
import { emitDeclarations, publicTypes } from './declarations.ts';

it('exports every type that its functions and classes name, and none that they do not', async () => {
  await using folder = await temporaryFolder();
  await emitDeclarations(folder.path);
  const { missing, superfluous, exported } = publicTypes(folder.path);
  expect(missing).toEqual([]);
  expect(superfluous).toEqual([]);
  expect(exported.filter((name) => name.startsWith('Native'))).toEqual([]);
  expect(exported).toEqual(expect.arrayContaining(['MigrationSource', 'streamHeader', 'PageBitmap', 'Span']));
});

it('exports every type that rdma-migrate/verbs names, and none that it does not', async () => {
  await using folder = await temporaryFolder();
  await emitDeclarations(folder.path);
  const { missing, superfluous, exported } = publicTypes(folder.path, 'verbs/index.d.ts');
  expect(missing).toEqual([]);
  expect(superfluous).toEqual([]);
  expect(exported.filter((name) => name.startsWith('Native'))).toEqual([]);
  expect(exported).toEqual(expect.arrayContaining(['Domain', 'QueuePair', 'MemoryRegion', 'Completion']));
});

it('exports every type that rdma-migrate/tunnel names, and none that it does not', async () => {
  await using folder = await temporaryFolder();
  await emitDeclarations(folder.path);
  const { missing, superfluous, exported } = publicTypes(folder.path, 'tunnel/index.d.ts');
  expect(missing).toEqual([]);
  expect(superfluous).toEqual([]);
  expect(exported.filter((name) => name.startsWith('Native'))).toEqual([]);
  expect(exported).toEqual(expect.arrayContaining(['TunnelSource', 'TunnelDestination', 'TunnelEvents']));
});

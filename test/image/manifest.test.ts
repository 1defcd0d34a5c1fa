import { describe, expect, it } from 'vitest';
import { type Manifest, parseManifest, serializeManifest } from '../../lib/image/manifest.ts';
import { expectError } from './support.ts';

const good: Manifest = {
  format: 'rdma-migrate image',
  version: 1,
  tool: 'rdma-migrate 0.1.0',
  created: '2025-01-02T03:04:05.678Z',
  machine: 'pc-i440fx-7.2',
  pageSize: 4096,
  ramSection: { sectionId: 2, instanceId: 0 },
  blocks: [
    { name: 'pc.ram', length: 1n << 40n, file: 'ram-0.bin', guestAddress: 0n },
    { name: '/rom@etc/acpi/tables', length: 131072n, external: { path: '/dev/shm/x', inode: 2n ** 60n } },
  ],
  before: { file: 'before.bin', length: 29n },
  after: { file: 'after.bin', length: 12345n },
  provenance: {
    origin: 'migration',
    migrationId: '01234567-89ab-4def-8123-456789abcdef',
    peer: '[::1]:4444',
    provider: 'iwarp',
    completeness: 'commit',
  },
};

/** The JSON of a good manifest with some of it changed. */
function changed(change: (json: Json) => void): string {
  const json = JSON.parse(serializeManifest(good)) as Json;
  change(json);
  return JSON.stringify(json);
}
// biome-ignore lint/suspicious/noExplicitAny: tests write what no type allows
type Json = any;

async function refuse(text: string, ...says: (string | RegExp)[]): Promise<void> {
  const where = '/vm/1/manifest.json';
  await expectError(() => parseManifest(text, where), 'IMAGE_INVALID', where, ...says);
}

describe('manifest', () => {
  it('reads what it wrote', () => {
    expect(parseManifest(serializeManifest(good), 'x')).toEqual(good);
  });

  it('reads one of an older release, which names no migration', () => {
    const older = changed((json) => {
      delete json.provenance.migrationId;
    });
    expect(parseManifest(older, 'x').provenance).not.toHaveProperty('migrationId');
  });

  it.each(['', '0123', '01234567-89ab-4def-8123-456789abcdeg', '\u001b[31m'])(
    'refuses the migration id %j',
    async (id) => {
      await refuse(
        changed((json) => {
          json.provenance.migrationId = id;
        }),
        'provenance.migrationId',
        'a UUID',
      );
    },
  );

  it('writes lengths as decimal strings, so that no reader rounds them', () => {
    const json = JSON.parse(serializeManifest(good)) as Json;
    expect(json.blocks[0].length).toBe('1099511627776');
    expect(json.blocks[1].external.inode).toBe('1152921504606846976');
  });

  it('refuses another version and says which one it reads', async () => {
    await refuse(
      changed((json) => {
        json.version = 2;
        json.newField = true;
      }),
      'version is 2',
      'reads version 1',
    );
  });

  it.each([
    ['text that is not JSON', '{"format":', 'not JSON'],
    ['another JSON', '[1]', 'not the manifest of a VM image'],
    ['another format', '{"format":"tar","version":1}', 'format'],
  ])('refuses %s', (_what, text, says) => refuse(text, says));

  it.each<[string, (json: Json) => void, string | RegExp]>([
    ['an unknown field', (j) => (j.extra = 1), 'extra'],
    ['a missing field', (j) => delete j.machine, 'machine'],
    ['a path as file name', (j) => (j.blocks[0].file = '../../etc/shadow'), 'blocks.0.file'],
    ['a separator in a file name', (j) => (j.blocks[0].file = 'a/b'), 'blocks.0.file'],
    ['.. as file name', (j) => (j.after.file = '..'), 'after.file'],
    ['a hidden file name', (j) => (j.after.file = '.x'), 'after.file'],
    ['a file name with a zero byte', (j) => (j.after.file = 'a\0b'), 'after.file'],
    ['the manifest as a file', (j) => (j.before.file = 'manifest.json'), 'before.file'],
    ['an empty file name', (j) => (j.before.file = ''), 'before.file'],
    ['a relative external path', (j) => (j.blocks[1].external.path = 'x'), 'external.path'],
    ['a block with file and external', (j) => (j.blocks[1].file = 'x'), 'either file or external'],
    ['a block without a file', (j) => delete j.blocks[0].file, 'either file or external'],
    ['a block name used twice', (j) => (j.blocks[1].name = 'pc.ram'), "'pc.ram' is used twice"],
    ['a file used twice', (j) => (j.blocks[0].file = 'after.bin'), "'after.bin' is used twice"],
    ['one file before and after', (j) => (j.after.file = 'before.bin'), 'same file'],
    ['a length as number', (j) => (j.blocks[0].length = 4096), 'blocks.0.length'],
    ['a negative length', (j) => (j.blocks[0].length = '-4096'), 'blocks.0.length'],
    ['a hexadecimal length', (j) => (j.blocks[0].length = '0x1000'), 'blocks.0.length'],
    ['a length with many digits', (j) => (j.blocks[0].length = '9'.repeat(99)), 'blocks.0.length'],
    ['a block without length', (j) => (j.blocks[0].length = '0'), 'blocks.0.length'],
    ['a block no process can map', (j) => (j.blocks[0].length = String(1n << 50n)), 'blocks.0.length'],
    ['a length off the page', (j) => (j.blocks[0].length = '4097'), 'not a multiple of the page size'],
    ['a beginning of gigabytes', (j) => (j.before.length = '9999999999'), 'before.length'],
    ['no blocks', (j) => (j.blocks = []), 'blocks'],
    ['too many blocks', (j) => (j.blocks = Array(5000).fill(j.blocks[0])), 'blocks'],
    ['an odd page size', (j) => (j.pageSize = 5000), 'pageSize'],
    ['a section id beyond 32 bits', (j) => (j.ramSection.sectionId = 2 ** 32), 'sectionId'],
    ['control characters in a name', (j) => (j.blocks[0].name = 'pc\u001b[31m'), 'blocks.0.name'],
    ['an unknown completeness', (j) => (j.provenance.completeness = 'yes'), 'completeness'],
    ['a created time that is none', (j) => (j.created = 'yesterday'), 'created'],
  ])('refuses %s', (_what, change, says) => refuse(changed(change), says));

  it('refuses blocks that only together are more than a process can map', async () => {
    const text = changed((json) => {
      for (const block of json.blocks) block.length = String(1n << 47n);
    });
    await refuse(text, 'more than a process can map');
  });

  it('refuses to write what it would not read', async () => {
    const bad = { ...good, after: { file: '../x', length: 0n } };
    await expectError(() => serializeManifest(bad), 'IMAGE_INVALID', 'after.file');
  });
});

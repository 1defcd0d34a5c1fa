import { type Manifest, parseManifest, serializeManifest } from '../../../lib/image/manifest.ts';
import { same, tried } from '../judge.ts';
import { mutateText } from '../mutate.ts';
import type { Target } from '../target.ts';
import { mutateTree, type Tree } from '../values.ts';

const SEED: Manifest = {
  format: 'rdma-migrate image',
  version: 1,
  tool: 'rdma-migrate 0.1.0',
  created: '2025-01-02T03:04:05.678Z',
  machine: 'pc-i440fx-7.2',
  pageSize: 4096,
  ramSection: { sectionId: 2, instanceId: 0 },
  blocks: [
    { name: 'pc.ram', length: 1n << 40n, file: 'ram-0.bin', guestAddress: 0n, digest: 'ab' },
    { name: '/rom@etc/acpi/tables', length: 131072n, external: { path: '/dev/shm/x', inode: 2n ** 60n } },
  ],
  before: { file: 'before.bin', length: 29n },
  after: { file: 'after.bin', length: 12345n },
  provenance: { origin: 'migration', peer: '[::1]:4444', provider: 'iwarp', completeness: 'commit' },
};
const TEXT = serializeManifest(SEED);
const TREE = JSON.parse(TEXT) as Tree;

export const manifest: Target = {
  name: 'manifest',
  feeds: 'parseManifest with manifests that are damaged as text or as values',
  reaches: ['taken', 'IMAGE_INVALID'],
  play(random, hit) {
    const text = random.chance(0.7) ? JSON.stringify(mutateTree(random, TREE)) : mutateText(random, TEXT);
    const read = tried(['IMAGE_INVALID'], hit, () => parseManifest(text, 'a manifest'));
    if (read === undefined) return;
    hit('taken');
    same('a manifest that was read and written', parseManifest(serializeManifest(read), 'x'), read);
  },
};

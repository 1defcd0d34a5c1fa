/** What is in the tarball is chosen: every file of it is of a kind that is listed here. */
import { expect, it } from 'vitest';
import { npmPack, publishedManifest } from '../../packaging/pack/stage.ts';

const CHECKOUT = new URL('../../', import.meta.url).pathname;
const CHOSEN = [
  /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|CMakeLists\.txt|cmake\/development\.cmake)$/,
  /^dist\/[\w/-]+\.(js|d\.ts)$/,
  /^prebuilds\/linux-(x64|arm64)\/(rdma_migrate\.node|rdma_migrate_verbs\.so)$/,
  /^native\/[\w/-]+\.(cc|h)$/,
  /^dist\/man\/man1\/rdma-migrate[\w-]*\.1$/,
  /^docs\/([\w-]+\.md|json-lines\.schema\.json)$/,
  /^web\/[\w/-]+\.(html|css|js|svg)$/,
  /^packaging\/(systemd|monitoring)\/[\w.-]+$/,
  /^examples\/(embed|verbs-[\w-]+)\/[\w/-]+\.(ts|md)$/,
];

it('holds what users run, read and build the addon from, and nothing else', async () => {
  const { files } = await npmPack(CHECKOUT);
  const paths = files.map(({ path }) => path);
  expect(paths.filter((path) => !CHOSEN.some((kind) => kind.test(path)))).toEqual([]);
  const needed = ['dist/cli/main.js', 'dist/index.d.ts', 'native/addon.cc', 'docs/cli.md', 'README.md'];
  const examples = ['embed/both-ends.ts', 'verbs-ends/run.ts', 'verbs-pingpong/main.ts'];
  const named = [...needed, ...examples.map((path) => `examples/${path}`)];
  expect(paths).toEqual(expect.arrayContaining(named));
});

it('publishes no script, so that npm install runs none and none fails for want of a checkout', () => {
  const { scripts, devDependencies, bin, dependencies } = JSON.parse(
    publishedManifest('{"scripts":{"a":"b"},"devDependencies":{},"bin":{"c":"d"},"dependencies":{"e":"1"}}'),
  );
  expect([scripts, devDependencies]).toEqual([undefined, undefined]);
  expect([bin, dependencies]).toEqual([{ c: 'd' }, { e: '1' }]);
});

/** `npm run pack:staged [-- x64 arm64]`: the tarball with the prebuilt addons of these architectures (default: both), in `build/tarball`. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ARCHITECTURES, targetOf } from '../prebuild/targets.ts';
import { CHECKOUT, endWith } from '../support/run.ts';
import { npmPack, stage } from './stage.ts';

async function main(names: readonly string[]): Promise<void> {
  const targets = (names.length > 0 ? names : ARCHITECTURES).map(targetOf);
  const needed = ['dist', ...targets.map(({ arch }) => `prebuilds/linux-${arch}`)];
  const folder = join(CHECKOUT, 'build/staged');
  const destination = join(CHECKOUT, 'build/tarball');
  await stage(CHECKOUT, folder, needed);
  await mkdir(destination, { recursive: true });
  const { filename } = await npmPack(folder, destination);
  console.log(join(destination, filename));
}

await main(process.argv.slice(2)).catch(endWith);

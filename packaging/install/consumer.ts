/** The package in an empty folder, as npm installs it for a user. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const NPM_INSTALL = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];

/** A folder with nothing but a package.json, the tarball and what checks it. */
export async function makeProject(folder: string, tarball: string, checkout: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'package.json'), '{ "name": "consumer", "private": true }\n');
  await copyFile(tarball, join(folder, 'package.tgz'));
  await copyFile(join(checkout, 'packaging/install/check.mjs'), join(folder, 'check.mjs'));
}

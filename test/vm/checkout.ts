/** This checkout, whether the bench runs as TypeScript or compiled somewhere below its root. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}

export const CHECKOUT = findRoot();

/** A file of test/vm/guest. */
export const guestFile = (name: string) => join(CHECKOUT, 'test/vm/guest', name);

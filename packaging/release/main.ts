/**
 * `npm run release -- VERSION`: a release in `build/release/VERSION`. Dry unless `--really`, and it never pushes or publishes: what is left to do is
 * printed. docs/packaging.md has what is made and what is refused.
 */
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CHECKOUT, endWith } from '../support/run.ts';
import { release } from './release.ts';

const USAGE = `usage: npm run release -- VERSION [--really] [--to DIR]

Makes rdma-migrate-VERSION.tgz with SBOM, provenance note, changes and checksums in DIR (build/release/VERSION), of what is
committed. Dry: nothing else is changed. Needs prebuilt addons of these sources: npm run build:prebuilds.

  --really    also commits version and changelog, and tags the commit
  --to DIR    not there yet, or an earlier release, which is replaced`;

/** What a person does then. */
function next(version: string, tarball: string, really: boolean): string {
  const path = relative(process.cwd(), tarball);
  const tried = `npm run test:install -- ${path} bookworm:20:amd64 trixie:24:amd64 bookworm:20:arm64`;
  const steps = really
    ? [tried, `git push --follow-tags`, `npm publish ${path}${version.includes('-') ? ' --tag next' : ''}`]
    : [tried, `npm run release -- ${version} --really`];
  return `Next:\n${steps.map((step) => `  ${step}`).join('\n')}`;
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { really: { type: 'boolean' }, to: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  });
  if (values.help) return console.log(USAGE);
  const [version, ...more] = positionals;
  if (version === undefined || more.length > 0) throw new Error(USAGE);
  const { really = false, to = join(CHECKOUT, 'build/release', version) } = values;
  const options = { checkout: CHECKOUT, version, really, folder: resolve(to), now: new Date() };
  const tarball = await release(options);
  console.log(
    really ? `${version} is committed and tagged` : `dry: ${version} is neither committed nor tagged`,
  );
  console.log(`${tarball}\n${next(version, tarball, really)}`);
}

await main(process.argv.slice(2)).catch(endWith);

/** Links between documents lead somewhere: to a file of the repository, and to a heading where one is named. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, it } from 'vitest';

const CHECKOUT = new URL('../../', import.meta.url).pathname;

async function documents(): Promise<string[]> {
  const inDocs = (await readdir(join(CHECKOUT, 'docs'))).filter((name) => name.endsWith('.md'));
  return ['README.md', 'CONTRIBUTING.md', ...inDocs.map((name) => `docs/${name}`)].map((name) =>
    join(CHECKOUT, name),
  );
}

const withoutCode = (text: string): string =>
  text.replaceAll(/^```.*?^```$/gms, '').replaceAll(/`[^`\n]*`/g, 'x');

/** As GitHub names headings. */
const anchorsOf = (text: string): string[] =>
  [...text.replaceAll(/^```.*?^```$/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );

async function broken(document: string): Promise<string[]> {
  const text = await readFile(document, 'utf8');
  const links = [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link as string);
  const found: string[] = [];
  for (const link of links.filter((link) => !/^[a-z]+:/.test(link))) {
    const [path, anchor] = link.split('#') as [string, string?];
    const target = path === '' ? document : resolve(dirname(document), path);
    const there = await stat(target).catch(() => undefined);
    const named =
      anchor === undefined || (there?.isFile() && anchorsOf(await readFile(target, 'utf8')).includes(anchor));
    if (!there || !named) found.push(`${relative(CHECKOUT, document)}: ${link}`);
  }
  return found;
}

it('in README and docs', async () => {
  const all = await documents();
  expect(all.length).toBeGreaterThan(20);
  expect((await Promise.all(all.map(broken))).flat()).toEqual([]);
});

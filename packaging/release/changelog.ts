/** The changelog of a release: what stood under Unreleased stands under its version and date. */

const UNRELEASED = '## Unreleased';

export interface ReleasedChangelog {
  /** The whole file. */
  readonly text: string;
  /** What has changed, without its heading. */
  readonly notes: string;
}

/** Versions that have a heading. */
export function versionsOf(text: string): string[] {
  return [...text.matchAll(/^## v?(\d+\.\d+\.\d+\S*)/gm)].map(([, version]) => version as string);
}

/**
 * @param date such as `2026-11-22`
 * @throws Error where nothing stands under Unreleased, or the version has a heading already
 */
export function releaseChangelog(text: string, version: string, date: string): ReleasedChangelog {
  if (versionsOf(text).includes(version)) throw new Error(`CHANGELOG.md has ${version} already`);
  const lines = text.split('\n');
  const heading = lines.findIndex((line) => line.trim() === UNRELEASED);
  if (heading === -1) throw new Error(`CHANGELOG.md has no "${UNRELEASED}"`);
  const length = lines.slice(heading + 1).findIndex((line) => line.startsWith('## '));
  const end = length === -1 ? lines.length : heading + 1 + length;
  const notes = lines
    .slice(heading + 1, end)
    .join('\n')
    .trim();
  if (notes.replace(/^#+ .*$/gm, '').trim() === '')
    throw new Error('nothing stands under Unreleased in CHANGELOG.md');
  const released = [UNRELEASED, '', `## ${version} - ${date}`, '', ...notes.split('\n'), ''];
  const rest = lines.slice(end);
  return { text: [...lines.slice(0, heading), ...released, ...rest].join('\n'), notes };
}

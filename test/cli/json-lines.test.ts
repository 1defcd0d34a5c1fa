/** The document of the lines of --json. That real commands print nothing else is checked wherever tests run them (command.ts). */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { jsonLinesSchema, LINES, lineNameOf } from '../../lib/cli/json-lines/index.ts';
import { JsonReporter } from '../../lib/cli/json-reporter.ts';
import { createLogger } from '../../lib/cli/log.ts';
import { ERROR_CODES, MigrationError } from '../../lib/errors.ts';

const DOCUMENT = new URL('../../docs/json-lines.schema.json', import.meta.url);
const silent = createLogger({ quiet: true, verbose: false, format: 'json' }, () => {});

describe('the schema of the lines of --json', () => {
  it('is what docs/json-lines.schema.json says: npm run json-schema writes it', async () => {
    expect(JSON.parse(await readFile(DOCUMENT, 'utf8'))).toEqual(jsonLinesSchema());
  });

  it('lets pass what a later release adds, and the tests do not', () => {
    expect(JSON.stringify(jsonLinesSchema())).not.toContain('"additionalProperties":false');
    expect(() => lineNameOf({ event: 'listening', uri: 'rdma:127.0.0.1:1', later: 1 })).toThrow(/later/);
  });

  it('has every code that an error can have', () => {
    const lines: string[] = [];
    const reporter = new JsonReporter((line) => lines.push(line), silent);
    for (const code of ERROR_CODES) {
      const error = new MigrationError(code, 'setup', 'why', { details: { needed: 1n << 60n } });
      reporter.failed({ error, exitCode: 7, left: 'nothing' });
    }
    expect(lines.map((line) => lineNameOf(JSON.parse(line)))).toEqual(ERROR_CODES.map(() => 'error'));
  });

  it('knows each line under one name', () => {
    const id = '123e4567-e89b-12d3-a456-426614174000';
    const lines: string[] = [];
    const reporter = new JsonReporter((line) => lines.push(line), silent).of(id);
    reporter.started('a VM comes', { peer: '192.0.2.1:1' });
    reporter.phase('ram');
    reporter.notice('a notice', { code: 'STRANGER', details: {} });
    for (const line of lines) {
      const fits = Object.values(LINES).filter((schema) => schema.safeParse(JSON.parse(line)).success);
      expect([line, fits.length]).toEqual([line, 1]);
      expect(JSON.parse(line)).toMatchObject({ migrationId: id });
    }
  });
});

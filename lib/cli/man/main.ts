/** Writes a man page for each command into a folder: `node dist/cli/man/main.js dist/man/man1`. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toolVersion } from '../../image/tool.ts';
import { everyCommand, modelOf } from '../completion/model.ts';
import { type Actions, buildProgram } from '../program.ts';
import { manPage, pageName } from './page.ts';

const nothing = new Proxy({}, { get: () => async () => {} }) as Actions;
const { SOURCE_DATE_EPOCH } = process.env;
const when = SOURCE_DATE_EPOCH === undefined ? new Date() : new Date(Number(SOURCE_DATE_EPOCH) * 1000);
const edition = { version: await toolVersion(), date: when.toISOString().slice(0, 10) };
const folder = process.argv[2] ?? 'dist/man/man1';

const program = modelOf(buildProgram(nothing, edition.version));
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
for (const command of everyCommand(program)) {
  await writeFile(join(folder, `${pageName(command)}.1`), manPage(command, program, edition));
}

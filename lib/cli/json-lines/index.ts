/**
 * Every line that a command prints with --json. docs/json-lines.schema.json is made of it (`npm run json-schema`), and the tests hold every line that a
 * command prints against it. Members are added, never changed.
 */
import { z } from 'zod';
import { benchResultSchema } from '../../bench/result.ts';
import { ERROR_CODES } from '../../errors.ts';
import { NOTICE_CODES } from '../../migration/events.ts';
import { EXIT } from '../exit-codes.ts';
import { count, coverage, decimal, details, migrationId, phase } from './fields.ts';
import { migrationProgress, migrationResult } from './migration.ts';
import { doctorReport, imageInspection } from './objects.ts';

const event = <E extends string>(name: E) => z.literal(name).describe('what the line is');
/** In lines of one VM among many. */
const ofVm = { migrationId: migrationId.optional() };

const started = z.strictObject({
  event: event('started'),
  migrationId,
  uri: z.string().optional().describe('of send'),
  peer: z.string().optional().describe('of receive --keep: host:port'),
});
const qemu = {
  'qemu-move-started': z.strictObject({
    event: event('started'),
    uri: z.string(),
    migrationId,
    pid: count.describe('of the QEMU'),
    machine: z.string(),
    tracker: z.strictObject({ kind: z.string(), reason: z.string() }).describe('how writes are detected'),
  }),
  'qemu-receive-started': z.strictObject({ event: event('started'), pid: count, qmp: z.string() }),
  'qemu-move-settled': z.strictObject({
    event: event('completed'),
    migrationId,
    outcome: z.literal('committed'),
    settled: z.literal(true).describe('the answer was lost, and asked for again'),
  }),
  'qemu-status': z.strictObject({
    event: event('completed'),
    migrationId,
    status: z.enum(['taken', 'not-taken', 'undecided', 'unknown']),
    pid: count.optional(),
    qmp: z.string().optional(),
    alive: z.boolean().optional().describe('the QEMU is there still'),
    left: z.boolean().optional().describe('its rdma-migrate has ended before it was decided'),
    guest: z
      .string()
      .optional()
      .describe('what query-status says, where its rdma-migrate has ended just when the guest was to go on'),
  }),
};
const leftover = z.strictObject({
  path: z.string(),
  image: z.string(),
  owner: z.enum(['alive', 'dead', 'unknown']),
  pid: count.optional(),
  bytes: decimal,
  modified: z.string().describe('ISO 8601'),
  outside: z.array(z.string()),
  removed: z.boolean(),
});
const fromQemu = z.strictObject({
  event: event('completed'),
  path: z.string(),
  machine: z.string(),
  ramBytes: decimal,
  streamBytes: decimal,
  completeness: z.enum(['commit', 'vmdescription', 'none']),
  coverage,
  savedWhileRunning: z.boolean().optional(),
  removedPartials: z.array(z.string()),
});
const errorCode = z.enum(ERROR_CODES);
const stream = { stream: count.describe('from 1 on'), peer: z.string().describe('host:port') };
const tunnel = {
  'tunnel-opened': z.strictObject({
    event: event('notice'),
    message: z.string(),
    code: z.literal('STREAM_OPENED'),
    ...stream,
    tls: z.strictObject({ cipher: z.string(), peer: z.string() }).optional(),
  }),
  'tunnel-closed': z.strictObject({
    event: event('notice'),
    message: z.string(),
    code: z.literal('STREAM_CLOSED'),
    ...stream,
    sent: decimal,
    received: decimal,
    error: errorCode.optional().describe('why it was reset'),
  }),
  'tunnel-refused': z.strictObject({
    event: event('notice'),
    message: z.string(),
    code: z.literal('STREAM_REFUSED'),
    who: z.string(),
    error: errorCode,
  }),
  'tunnel-completed': z.strictObject({
    event: event('completed'),
    streams: count,
    sent: decimal,
    received: decimal,
    provider: z.enum(['verbs', 'iwarp']),
  }),
};
const verified = z.strictObject({
  event: event('completed'),
  path: z.string(),
  state: z.literal('same').describe('anything else is an error'),
  parts: z.array(
    z.strictObject({
      name: z.string(),
      kind: z.enum(['ram', 'stream']),
      bytes: decimal,
      compared: z.literal(true),
    }),
  ),
});
const exitCodes = Object.values(EXIT);

/** By name, as the document has them. */
export const LINES = {
  listening: z.strictObject({ event: event('listening'), uri: z.string().describe('with the real port') }),
  page: z.strictObject({ event: event('page'), url: z.string().describe('with its token') }),
  started,
  phase: z.strictObject({ event: event('phase'), ...ofVm, phase }),
  'migration-progress': z.strictObject({ event: event('progress'), ...ofVm, ...migrationProgress }),
  'image-progress': z.strictObject({
    event: event('progress'),
    phase: z.enum(['setup', 'ram', 'device-state', 'commit']),
    done: decimal,
    total: decimal,
    streamBytes: decimal,
  }),
  notice: z.strictObject({
    event: event('notice'),
    ...ofVm,
    message: z.string(),
    code: z.enum(NOTICE_CODES).optional(),
    details: details.optional(),
  }),
  'migration-completed': z.strictObject({ event: event('completed'), ...migrationResult }),
  'service-stopped': z.strictObject({
    event: event('completed'),
    status: z.literal('stopped'),
    folder: z.string(),
    received: count,
    failed: count,
    cancelled: count,
  }),
  'from-qemu-completed': fromQemu,
  'to-qemu-completed': z.strictObject({
    event: event('completed'),
    streamBytes: decimal,
    ramBytes: decimal,
    image: z.string(),
    file: z.string(),
  }),
  'verify-completed': verified,
  ...qemu,
  ...tunnel,
  'clean-completed': z.strictObject({
    event: event('completed'),
    folder: z.string(),
    leftovers: z.array(leftover),
    freed: decimal,
  }),
  error: z.strictObject({
    event: event('error'),
    ...ofVm,
    code: errorCode,
    phase,
    message: z.string(),
    details,
    'exit-code': z
      .literal(exitCodes)
      .describe('of the command; of one VM of a service: what receive would have ended with'),
    left: z.string().optional().describe('what the failure left'),
  }),
  'bench-result': benchResultSchema.extend({ event: event('result') }),
  doctor: doctorReport,
  'image-inspect': imageInspection,
} as const;

export type LineName = keyof typeof LINES;

/** Which line it is. @throws Error it is none, and why it is not the one that it is most likely */
export function lineNameOf(line: unknown): LineName {
  const names = Object.keys(LINES) as LineName[];
  const found = names.find((name) => LINES[name].safeParse(line).success);
  if (found !== undefined) return found;
  const { event: said } = line as { event?: unknown };
  const why = names
    .filter((name) => said === undefined || name.includes(String(said)))
    .map((name) => `${name}: ${z.prettifyError(LINES[name].safeParse(line).error as z.ZodError)}`);
  throw new Error(`no line of --json: ${JSON.stringify(line)}\n${why.join('\n')}`);
}

/** The document: JSON Schema 2020-12. */
export function jsonLinesSchema(): object {
  const options = {
    io: 'input',
    // A program that reads these lines has to let pass what a later release adds.
    override: ({ jsonSchema }: { jsonSchema: { additionalProperties?: unknown } }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
    },
  } as const;
  const definitions = Object.entries(LINES).map(([name, schema]) => {
    const { $schema: _, ...definition } = z.toJSONSchema(schema, options);
    return [name, definition];
  });
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'A line that rdma-migrate prints with --json',
    description:
      'Every line is one JSON object. Members may be added in later versions. docs/cli.md says which command prints which line, and what the members mean.',
    anyOf: Object.keys(LINES).map((name) => ({ $ref: `#/$defs/${name}` })),
    $defs: Object.fromEntries(definitions),
  };
}

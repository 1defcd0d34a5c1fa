import { z } from 'zod';
import { MigrationError } from '../errors.ts';

/** The version of the manifest that this build writes and reads. */
export const MANIFEST_VERSION = 1;
export const MANIFEST_FORMAT = 'rdma-migrate image';

/** x86-64 and arm64 give a process 47 or 48 bits of addresses: no VM with more RAM can be mapped. */
export const MAX_RAM_BYTES = 1n << 47n;
/** Device state is megabytes; with passed-through devices it may be gigabytes. */
export const MAX_DEVICE_STATE_BYTES = 1n << 40n;
/** Magic, version and CONFIGURATION: some hundred bytes. */
export const MAX_BEFORE_BYTES = 1n << 20n;
const MAX_BLOCKS = 4096;

const decimal = z.codec(
  z.string().regex(/^(0|[1-9][0-9]{0,18})$/, 'a decimal number in quotes'),
  z.bigint(),
  {
    decode: (text) => BigInt(text),
    encode: (value) => value.toString(),
  },
);

const plainName = z
  .string()
  .max(128)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'a plain file name of this image, without any directory')
  .refine(
    (name) => name !== 'manifest.json' && name !== 'sent.json',
    'a name other than manifest.json and sent.json',
  );

const u32 = z.int().min(0).max(0xffff_ffff);
const text = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'text without control characters');

/** Where a block outside the image was made, for people: only what the user names is opened (see openRamFile). */
const external = z.strictObject({
  path: text(4096).refine((path) => path.startsWith('/'), 'an absolute path'),
  inode: decimal,
});

const block = z
  .strictObject({
    name: text(255),
    length: decimal.refine((length) => length > 0n && length <= MAX_RAM_BYTES, `1 to ${MAX_RAM_BYTES}`),
    file: plainName.optional(),
    external: external.optional(),
    guestAddress: decimal.optional(),
    digest: text(256).optional(),
  })
  .refine((b) => (b.file === undefined) !== (b.external === undefined), 'either file or external');

const streamFile = (max: bigint) =>
  z.strictObject({
    file: plainName,
    length: decimal.refine((length) => length <= max, `at most ${max}`),
    /** Of `StreamDigest`. Absent: none was kept, or by an older release. */
    digest: text(256).optional(),
  });

const provenance = z.strictObject({
  /** How the VM came here: over RDMA, or from a plain QEMU stream. */
  origin: z.enum(['migration', 'qemu-stream']),
  /** Of the migration that wrote the image. Absent: it came otherwise, or from an older release. */
  migrationId: z
    .string()
    .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'a UUID in small letters')
    .optional(),
  peer: text(512).optional(),
  provider: text(64).optional(),
  /** What proved that the VM is whole: the commit handshake, the VMDESCRIPTION after the device state, or nothing. */
  completeness: z.enum(['commit', 'vmdescription', 'none']),
  /** Absent: every page of RAM was accounted for. See Coverage in lib/ram/coverage.ts. */
  coverage: z.enum(['with-gaps', 'unknown']).optional(),
});

const manifestSchema = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  version: z.literal(MANIFEST_VERSION),
  tool: text(128),
  created: z.iso.datetime(),
  machine: text(255),
  pageSize: z
    .int()
    .min(1024)
    .max(1 << 20)
    .refine((size) => (size & (size - 1)) === 0, 'a power of two'),
  ramSection: z.strictObject({ sectionId: u32, instanceId: u32 }),
  blocks: z.array(block).min(1).max(MAX_BLOCKS),
  before: streamFile(MAX_BEFORE_BYTES),
  after: streamFile(MAX_DEVICE_STATE_BYTES),
  provenance,
});

/** What an image says about itself. Lengths in bytes. */
export type Manifest = z.output<typeof manifestSchema>;
export type ManifestBlock = Manifest['blocks'][number];
/** Where the VM of an image comes from, and how it is known to be whole. */
export type Provenance = Manifest['provenance'];
/** How a VM in an image is known to be whole. */
export type Completeness = Provenance['completeness'];

interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** What no single field shows. */
function* inconsistencies(manifest: Manifest): Generator<Problem> {
  const names = new Set<string>();
  const files = new Set([manifest.before.file]);
  if (files.has(manifest.after.file)) yield { path: ['after', 'file'], message: 'before has the same file' };
  files.add(manifest.after.file);
  let total = 0n;
  for (const [index, { name, length, file, external: outside }] of manifest.blocks.entries()) {
    const path = ['blocks', index];
    const store = file ?? outside?.path ?? '';
    if (names.has(name)) yield { path, message: `the name '${name}' is used twice` };
    if (files.has(store)) yield { path, message: `the file '${store}' is used twice` };
    if (length % BigInt(manifest.pageSize) !== 0n) {
      yield { path, message: `the length ${length} is not a multiple of the page size ${manifest.pageSize}` };
    }
    names.add(name);
    files.add(store);
    total += length;
  }
  if (total > MAX_RAM_BYTES)
    yield { path: ['blocks'], message: `${total} bytes of RAM, more than a process can map` };
}

const versionSchema = z.object({ format: z.literal(MANIFEST_FORMAT), version: z.int() });

/**
 * Reads the text of a manifest. `where` names it in errors.
 * @throws MigrationError IMAGE_INVALID: not JSON, another version, or a field that cannot be true; the message names the field.
 */
export function parseManifest(json: string, where: string): Manifest {
  const value = parseJson(json, where);
  const head = versionSchema.safeParse(value);
  if (!head.success)
    throw invalid(where, `it is not the manifest of a VM image (${describe(head.error.issues)})`);
  if (head.data.version !== MANIFEST_VERSION) {
    throw new MigrationError(
      'IMAGE_INVALID',
      'image',
      `${where}: its version is ${head.data.version}, this build reads version ${MANIFEST_VERSION}: use the rdma-migrate that wrote it, or a newer one`,
      { details: { version: head.data.version, supported: MANIFEST_VERSION } },
    );
  }
  const manifest = manifestSchema.safeDecode(value as z.input<typeof manifestSchema>);
  if (!manifest.success) throw invalid(where, describe(manifest.error.issues));
  return checkConsistent(manifest.data, where);
}

/** The text of a manifest, checked by the rules that {@link parseManifest} has. */
export function serializeManifest(manifest: Manifest): string {
  const where = 'the manifest of the new image';
  const encoded = manifestSchema.safeEncode(manifest);
  if (!encoded.success) throw invalid(where, describe(encoded.error.issues));
  checkConsistent(manifest, where);
  return `${JSON.stringify(encoded.data, undefined, 2)}\n`;
}

function parseJson(json: string, where: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw invalid(where, 'it is not JSON', cause);
  }
}

function checkConsistent(manifest: Manifest, where: string): Manifest {
  const problems = [...inconsistencies(manifest)];
  if (problems.length > 0) throw invalid(where, describe(problems));
  return manifest;
}

function describe(problems: readonly Problem[]): string {
  const shown = problems
    .slice(0, 3)
    .map(({ path, message }) => `${path.join('.') || 'manifest'}: ${message}`);
  const more = problems.length - shown.length;
  return shown.join('; ') + (more > 0 ? `; and ${more} more` : '');
}

function invalid(where: string, problem: string, cause?: unknown): MigrationError {
  const message = `${where} is not a usable image: ${problem}. Receive or convert the VM again`;
  return new MigrationError('IMAGE_INVALID', 'image', message, { cause });
}

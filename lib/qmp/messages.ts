import { z } from 'zod';
import { MigrationError } from '../errors.ts';

/** What QEMU says about itself when a QMP connection opens. */
export interface QmpGreeting {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  /** The distributor's name for the build; may be empty. */
  readonly package: string;
}

/** An asynchronous QMP event, such as `STOP` or `MIGRATION` with `{ status: 'completed' }`. */
export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** One message of the server, by kind. `id` is what the command carried; QEMU omits it when it could not parse the command. */
export type QmpMessage =
  | { readonly kind: 'greeting'; readonly greeting: QmpGreeting }
  | { readonly kind: 'event'; readonly event: QmpEvent }
  | { readonly kind: 'return'; readonly id: number; readonly value: unknown }
  | {
      readonly kind: 'error';
      readonly id: number | undefined;
      readonly errorClass: string;
      readonly description: string;
    };

const version = z.object({ major: z.int(), minor: z.int(), micro: z.int() });
const greetingSchema = z.object({
  QMP: z.object({ version: z.object({ qemu: version, package: z.string() }) }),
});
const eventSchema = z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() });
const errorSchema = z.object({
  error: z.object({ class: z.string(), desc: z.string() }),
  id: z.int().optional(),
});
const returnSchema = z.object({ return: z.unknown(), id: z.int() });

function fromJson(value: object): QmpMessage | undefined {
  if ('return' in value) {
    const { data } = returnSchema.safeParse(value);
    return data && { kind: 'return', id: data.id, value: data.return };
  }
  if ('error' in value) {
    const { data } = errorSchema.safeParse(value);
    return data && { kind: 'error', id: data.id, errorClass: data.error.class, description: data.error.desc };
  }
  if ('event' in value) {
    const { data } = eventSchema.safeParse(value);
    return data && { kind: 'event', event: { name: data.event, data: data.data ?? {} } };
  }
  const { data } = greetingSchema.safeParse(value);
  const found = data?.QMP.version;
  return found && { kind: 'greeting', greeting: { version: found.qemu, package: found.package } };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/**
 * Reads one line of a QMP server (QEMU's "QMP Protocol Specification", section 2). Numbers are JavaScript numbers: integers
 * beyond 2^53 lose precision.
 *
 * @throws MigrationError `PROTOCOL_ERROR` when the line is not a QMP message.
 */
export function parseMessage(line: string): QmpMessage {
  const value = parseJson(line);
  const message = typeof value === 'object' && value !== null ? fromJson(value) : undefined;
  if (message !== undefined) return message;
  const shown = JSON.stringify(line.slice(0, 80));
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    `not a QMP message: ${shown} (${line.length} characters). Is this the QMP socket, and not a serial port or the human monitor?`,
    { details: { length: line.length } },
  );
}

/** What a viewer may do to a migration. Every word of it is checked: it comes from outside. */
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import type { Watched } from './watched.ts';

const base = { type: z.literal('action'), migration: z.int().min(0), request: z.int().min(0) };

const actionSchema = z.discriminatedUnion('action', [
  z.strictObject({ ...base, action: z.literal('cancel') }),
  z.strictObject({ ...base, action: z.literal('stop-and-copy') }),
  /** Bytes per second; 0: no limit. */
  z.strictObject({ ...base, action: z.literal('max-bandwidth'), value: z.int().min(0) }),
  /** Milliseconds. */
  z.strictObject({ ...base, action: z.literal('downtime-limit'), value: z.number().min(0) }),
]);

export type Action = z.infer<typeof actionSchema>;

export interface Answer {
  readonly type: 'answer';
  readonly request: number | undefined;
  readonly ok: boolean;
  readonly message: string;
}

/** Does what the text asks for. Never throws: what is wrong with it is in the answer. `told` hears of what was done. */
export function act(text: string, watched: readonly Watched[], told: (what: string) => void): Answer {
  let request: number | undefined;
  try {
    const action = actionSchema.parse(JSON.parse(text));
    request = action.request;
    const one = watched.find(({ id }) => id === action.migration);
    if (one === undefined || one.hasEnded) return refuse(request, 'this migration has ended');
    const done = perform(action, one);
    told(done);
    return { type: 'answer', request, ok: true, message: done };
  } catch (error) {
    return refuse(request, error instanceof MigrationError ? error.message : 'this is no action of the page');
  }
}

const refuse = (request: number | undefined, message: string): Answer => ({
  type: 'answer',
  request,
  ok: false,
  message,
});

function perform(action: Action, { controls }: Watched): string {
  if (action.action === 'cancel') {
    controls.cancel();
    return 'cancelling';
  }
  const { source } = controls;
  if (!source) throw new MigrationError('INVALID_ARGUMENT', 'configure', 'the source decides this');
  switch (action.action) {
    case 'stop-and-copy':
      source.stopAndCopy();
      return 'the guest is stopped now, and the rest sent';
    case 'max-bandwidth':
      source.setMaxBandwidth(BigInt(action.value));
      return `max-bandwidth is ${action.value} bytes per second${action.value === 0 ? ', no limit' : ''}`;
    case 'downtime-limit':
      source.setLive({ downtimeLimitMs: action.value });
      return `downtime-limit is ${action.value} ms`;
  }
}

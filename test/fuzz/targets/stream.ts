import type { ErrorCode, MigrationError } from '../../../lib/errors.ts';
import { DeviceStateCheck, type DeviceStateResult } from '../../../lib/protocol/tail.ts';
import { run } from '../../protocol/streams.ts';
import { Finding, refused, same } from '../judge.ts';
import { pieces } from '../mutate.ts';
import { damagedStream, type Form, streamParts } from '../streams.ts';
import type { Hit, Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['STREAM_ERROR', 'VERSION_MISMATCH', 'BLOCK_MISMATCH'];

export const stream: Target = {
  name: 'stream',
  feeds:
    'the stream parser (both forms) and the check of the device state with made and captured streams, in pieces',
  reaches: ['undamaged', 'whole', 'not whole', 'hook', 'pages', 'ram-end', 'STREAM_ERROR', 'waits for more'],
  play(random, hit) {
    const form: Form = random.chance(0.5) ? 'rdma' : 'pages';
    const parts = streamParts(random, form);
    const damaged = random.chance(0.9);
    const bytes = damaged ? damagedStream(random, parts) : Buffer.concat(parts);
    const once = outcome(form, [bytes], hit);
    const split = outcome(form, pieces(random, bytes), () => {});
    same('what comes in pieces', split, once);
    hit(damaged ? 'damaged' : 'undamaged');
    if (!damaged && !once.state?.complete)
      throw new Finding(`an undamaged stream is refused: ${JSON.stringify(once.error)}`);
  },
};

interface Outcome {
  readonly events: readonly unknown[];
  readonly error: string | undefined;
  readonly state: DeviceStateResult | undefined;
}

function outcome(form: Form, chunks: readonly Uint8Array[], hit: Hit): Outcome {
  try {
    const { events, tail } = run(form, chunks);
    for (const { type } of events) hit(type);
    if (events.at(-1)?.type !== 'ram-end') {
      hit('waits for more');
      return { events, error: undefined, state: undefined };
    }
    return { events, error: undefined, state: deviceState(tail, chunks.length, hit) };
  } catch (error) {
    refused(error, CODES, hit);
    const { code, message, phase } = error as MigrationError;
    return { events: [], error: `${code} ${phase} ${message}`, state: undefined };
  }
}

function deviceState(tail: Uint8Array, chunks: number, hit: Hit): DeviceStateResult {
  const check = new DeviceStateCheck();
  const size = Math.max(1, Math.ceil(tail.length / chunks));
  for (let at = 0; at < tail.length; at += size) check.push(tail.subarray(at, at + size));
  const result = check.result();
  hit(result.complete ? 'whole' : 'not whole');
  return result;
}

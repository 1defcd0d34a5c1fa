import type { ErrorCode } from '../../../lib/errors.ts';
import { decodeControl, encodeControl } from '../../../lib/protocol/control.ts';
import { decodeReason } from '../../../lib/protocol/reason.ts';
import { Finding, same, tried } from '../judge.ts';
import { controlMessage } from '../messages.ts';
import { mutate } from '../mutate.ts';
import type { Target } from '../target.ts';

const CODES: readonly ErrorCode[] = ['PROTOCOL_ERROR'];

export const control: Target = {
  name: 'control',
  feeds: 'the control message decoder with messages of every type, whole and damaged',
  reaches: [
    'undamaged',
    'PROTOCOL_ERROR',
    ...['ERROR', 'READY', 'QEMU_FILE', 'RAM_BLOCKS_REQUEST', 'RAM_BLOCKS_RESULT', 'COMPRESS'],
    ...['REGISTER_REQUEST', 'REGISTER_RESULT', 'REGISTER_FINISHED', 'UNREGISTER_REQUEST'],
    ...['UNREGISTER_FINISHED', 'COMMIT', 'COMMITTED', 'ALIVE', 'PROGRESS'],
  ],
  play(random, hit) {
    const message = controlMessage(random);
    const valid = encodeControl(message);
    const damaged = random.chance(0.8);
    const bytes = damaged ? mutate(random, valid) : valid;
    if (damaged && random.chance(0.5) && bytes.length >= 16)
      // its length is right again
      Buffer.from(bytes.buffer, bytes.byteOffset).writeUInt32BE(bytes.length - 16, 0);
    const decoded = tried(CODES, hit, () => decodeControl(bytes));
    hit(damaged ? 'damaged' : 'undamaged');
    if (!damaged && !decoded) throw new Finding(`an undamaged ${message.type} is refused`);
    if (!decoded) return;
    hit(decoded.type);
    same('the bytes of what was read', Buffer.from(encodeControl(decoded)), Buffer.from(bytes));
    if (decoded.type === 'ERROR' && decoded.reason) decodeReason(decoded.reason);
  },
};

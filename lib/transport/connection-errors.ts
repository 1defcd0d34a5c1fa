/** What is said of a connection that ends, or of a call on it that fails. */
import { MigrationError, type Phase, toMigrationError } from '../errors.ts';
import { decodeReason, type PeerReason } from '../protocol/reason.ts';

/** Which end of the migration the peer is. */
export type PeerRole = 'source' | 'destination';

/** Who is at the other end. */
export interface Peer {
  readonly role: PeerRole;
  readonly address: string;
}

/** The peer sent an ERROR; `data` says why, where it does. */
export function peerError({ role, address }: Peer, data: Uint8Array | undefined, at: Phase): MigrationError {
  const reason = data && decodeReason(data);
  const { code, phase, message } = reason ?? { message: '' };
  const details = {
    ...(code && { peerCode: code }),
    ...(phase && { peerPhase: phase }),
    ...(message !== '' && { peerMessage: message }),
  };
  // Asked for again it may be granted: whoever waits for that has to know.
  const ours = code === 'BUSY' ? 'BUSY' : 'PEER_ERROR';
  return new MigrationError(ours, at, peerSays(`the ${role} (${address})`, reason), { details });
}

/** The peer disconnected in good order, and too early. */
export const orderlyEnd = ({ address }: Peer, phase: Phase): MigrationError =>
  new MigrationError(
    'CONNECTION_LOST',
    phase,
    `the peer (${address}) disconnected before the migration was complete. Its log may say why; ` +
      'a QEMU that finds other RAM blocks than its own just disconnects: compare both sides’ machine type and memory.',
  );

/** The same error, with the phase that the migration was in. */
export function labelled(error: unknown, phase: Phase): MigrationError {
  const known = toMigrationError(error, phase);
  return known.phase === phase
    ? known
    : new MigrationError(known.code, phase, known.message, { cause: error });
}

function peerSays(who: string, reason: PeerReason | undefined): string {
  if (reason === undefined)
    return `${who} reported that the migration failed on its side: its own log says why`;
  const { code, phase, message } = reason;
  if (code === 'CANCELLED') return `the migration was cancelled at ${who}`;
  const where = [code, phase && `phase ${phase}`].filter((part) => part !== undefined).join(', ');
  return `the migration failed at ${who}: ${message || 'it does not say why'}${where && ` (there ${where})`}`;
}

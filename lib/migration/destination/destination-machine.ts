/**
 * The destination's order of messages as a pure state machine: what may come when, and what is to be done about it.
 *
 * ```text
 *            QEMU_FILE              HOOK in the stream
 *   +--------- stream ---------------------------------> hook
 *   |            ^  |                                     |  DESCRIPTION, RAM_BLOCKS_REQUEST (once, in START), then
 *   |            |  |                                     |  DIGESTS_REQUEST there; COMPRESS, REGISTER_REQUEST,
 *   |            |  | END of ram                          |  UNREGISTER_REQUEST
 *   +------------+  v                REGISTER_FINISHED    |
 *                device <---- stream <--------------------+
 *                   |  COMMIT, or a v1 source's disconnect after a whole stream
 *                   v
 *                 done
 * ```
 */
import { MigrationError } from '../../errors.ts';
import type { Commit } from '../../protocol/commit.ts';
import type {
  CompressCommand,
  ControlMessage,
  DigestsRequest,
  RegisterCommand,
} from '../../protocol/control.ts';
import type { ProgressAccount } from '../../protocol/progress.ts';

export type DestinationState =
  | { readonly name: 'stream' }
  | {
      readonly name: 'hook';
      readonly section: 'start' | 'part' | 'end';
      readonly blocksAnnounced: boolean;
      readonly described?: true;
    }
  | { readonly name: 'device'; readonly commit: boolean }
  | { readonly name: 'done' };

export type DestinationAction =
  | { readonly do: 'feed-stream'; readonly bytes: Uint8Array }
  | { readonly do: 'append-device-state'; readonly bytes: Uint8Array }
  | { readonly do: 'describe'; readonly bytes: Uint8Array }
  | { readonly do: 'announce-blocks' }
  | { readonly do: 'digest'; readonly request: DigestsRequest }
  | { readonly do: 'zero'; readonly command: CompressCommand }
  | { readonly do: 'register'; readonly commands: readonly RegisterCommand[] }
  | { readonly do: 'unregister'; readonly commands: readonly RegisterCommand[] }
  | { readonly do: 'resume-stream' }
  | { readonly do: 'wait-on' }
  | { readonly do: 'note-progress'; readonly account: ProgressAccount }
  | { readonly do: 'commit'; readonly commit: Commit };

export interface Step {
  readonly state: DestinationState;
  readonly action: DestinationAction;
}

/**
 * What a message means in a state.
 * @throws MigrationError PROTOCOL_ERROR that names the message and the state when it is out of turn
 */
export function step(state: DestinationState, message: ControlMessage): Step {
  // It says that the source is there, and nothing of the VM.
  if (message.type === 'ALIVE' && state.name !== 'done') return { state, action: { do: 'wait-on' } };
  if (message.type === 'PROGRESS' && state.name !== 'done')
    return { state, action: { do: 'note-progress', account: message } };
  switch (state.name) {
    case 'stream':
      if (message.type === 'QEMU_FILE') return { state, action: { do: 'feed-stream', bytes: message.bytes } };
      break;
    case 'hook':
      return hookStep(state, message);
    case 'device':
      if (message.type === 'QEMU_FILE')
        return { state, action: { do: 'append-device-state', bytes: message.bytes } };
      if (message.type === 'COMMIT' && state.commit)
        return { state: { name: 'done' }, action: { do: 'commit', commit: message } };
      break;
    case 'done':
      break;
  }
  throw outOfTurn(state, message);
}

function hookStep(state: Extract<DestinationState, { name: 'hook' }>, message: ControlMessage): Step {
  switch (message.type) {
    case 'DESCRIPTION':
      if (state.section !== 'start' || state.blocksAnnounced || state.described)
        throw outOfTurn(state, message);
      return { state: { ...state, described: true }, action: { do: 'describe', bytes: message.bytes } };
    case 'RAM_BLOCKS_REQUEST':
      if (state.blocksAnnounced || state.section !== 'start') throw outOfTurn(state, message);
      return { state: { ...state, blocksAnnounced: true }, action: { do: 'announce-blocks' } };
    case 'DIGESTS_REQUEST':
      if (!state.blocksAnnounced || state.section !== 'start') throw outOfTurn(state, message);
      return { state, action: { do: 'digest', request: message } };
    case 'COMPRESS':
      requireBlocks(state, message);
      return { state, action: { do: 'zero', command: message } };
    case 'REGISTER_REQUEST':
      requireBlocks(state, message);
      return { state, action: { do: 'register', commands: message.commands } };
    case 'UNREGISTER_REQUEST':
      requireBlocks(state, message);
      return { state, action: { do: 'unregister', commands: message.commands } };
    case 'REGISTER_FINISHED':
      return { state: { name: 'stream' }, action: { do: 'resume-stream' } };
    default:
      throw outOfTurn(state, message);
  }
}

/** In later sections the blocks have been announced in START. */
function requireBlocks(state: Extract<DestinationState, { name: 'hook' }>, message: ControlMessage): void {
  if (state.section === 'start' && !state.blocksAnnounced) throw outOfTurn(state, message);
}

function outOfTurn(state: DestinationState, message: ControlMessage): MigrationError {
  const where =
    state.name === 'hook'
      ? `the hook of the ram section's ${state.section.toUpperCase()}`
      : `state '${state.name}'`;
  return new MigrationError(
    'PROTOCOL_ERROR',
    'ram',
    `the source sent ${message.type}, which is not allowed in ${where}`,
    {
      details: { received: message.type, state: state.name },
    },
  );
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { type DestinationState, step } from '../../lib/migration/destination/destination-machine.ts';
import type { ControlMessage } from '../../lib/protocol/control.ts';

const bytes = new Uint8Array([1]);
const digest = new Uint8Array(32);
const MESSAGES: ControlMessage[] = [
  { type: 'READY' },
  { type: 'QEMU_FILE', bytes },
  { type: 'RAM_BLOCKS_REQUEST' },
  { type: 'RAM_BLOCKS_RESULT', blocks: [] },
  { type: 'COMPRESS', value: 0, blockIndex: 0, offset: 0n, length: 1n },
  { type: 'REGISTER_REQUEST', commands: [] },
  { type: 'REGISTER_RESULT', results: [] },
  { type: 'REGISTER_FINISHED' },
  { type: 'UNREGISTER_REQUEST', commands: [] },
  { type: 'UNREGISTER_FINISHED' },
  { type: 'COMMIT', streamBytes: 0n, ramBytes: 0n, zeroBytes: 0n, rounds: 0, sentDigest: digest },
  { type: 'COMMITTED', status: 'OK' },
];
const STATES: [string, DestinationState, string[]][] = [
  ['stream', { name: 'stream' }, ['QEMU_FILE']],
  [
    'the first hook',
    { name: 'hook', section: 'start', blocksAnnounced: false },
    ['RAM_BLOCKS_REQUEST', 'REGISTER_FINISHED'],
  ],
  [
    'the first hook, blocks announced',
    { name: 'hook', section: 'start', blocksAnnounced: true },
    ['COMPRESS', 'REGISTER_REQUEST', 'REGISTER_FINISHED', 'UNREGISTER_REQUEST'],
  ],
  [
    'a later hook',
    { name: 'hook', section: 'end', blocksAnnounced: false },
    ['COMPRESS', 'REGISTER_REQUEST', 'REGISTER_FINISHED', 'UNREGISTER_REQUEST'],
  ],
  ['device state with commit', { name: 'device', commit: true }, ['QEMU_FILE', 'COMMIT']],
  ['device state of a v1 source', { name: 'device', commit: false }, ['QEMU_FILE']],
  ['done', { name: 'done' }, []],
];

describe('step', () => {
  it.each(STATES)('in %s takes what a source says of itself, unless everything has been said', (_, state) => {
    const counts = { round: 1, pending: 0, content: 0, zero: 0, foundContent: 0, foundZero: 0 };
    for (const message of [{ type: 'ALIVE' }, { type: 'PROGRESS', ...counts }] as const) {
      if (state.name === 'done') expect(() => step(state, message)).toThrow(message.type);
      else expect(step(state, message).state).toBe(state);
    }
  });

  it.each(STATES)('in %s takes what is due and refuses everything else', (_, state, due) => {
    for (const message of MESSAGES) {
      if (due.includes(message.type)) {
        expect(step(state, message).action.do).toBeTypeOf('string');
      } else {
        expect(() => step(state, message), message.type).toThrow(
          expect.objectContaining({
            code: 'PROTOCOL_ERROR',
            details: { received: message.type, state: state.name },
          }),
        );
      }
    }
  });

  it('goes back to the stream when the round is over', () => {
    const hook: DestinationState = { name: 'hook', section: 'part', blocksAnnounced: false };
    expect(step(hook, { type: 'REGISTER_FINISHED' })).toEqual({
      state: { name: 'stream' },
      action: { do: 'resume-stream' },
    });
  });

  it('announces the blocks once', () => {
    const first = step(
      { name: 'hook', section: 'start', blocksAnnounced: false },
      { type: 'RAM_BLOCKS_REQUEST' },
    );
    expect(first.action).toEqual({ do: 'announce-blocks' });
    expect(() => step(first.state, { type: 'RAM_BLOCKS_REQUEST' })).toThrow(MigrationError);
  });

  it('is done after COMMIT, whatever came before', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...MESSAGES), { maxLength: 30 }), (messages) => {
        let state: DestinationState = { name: 'device', commit: true };
        for (const message of messages) {
          try {
            state = step(state, message).state;
          } catch (error) {
            expect(error).toBeInstanceOf(MigrationError);
          }
          if (state.name === 'done') expect(() => step(state, message)).toThrow(MigrationError);
        }
        expect(state.name).toBe(messages.some(({ type }) => type === 'COMMIT') ? 'done' : 'device');
      }),
    );
  });
});

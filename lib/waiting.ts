/** What a wait depends on. When it was in vain, that is where to look, and nowhere else. */
export type WaitingFor = keyof typeof REMEDY;

const REMEDY = {
  peer: 'Check that the peer is alive and not stopped, and the network between',
  network: 'Check the network to the peer, and that the peer is not stopped: it takes nothing then',
  'peer-commit':
    'The destination may still be at it: look at its disk and its log. Allow more time for the next (commitTimeoutMs, --commit-timeout)',
  vmm: 'The VMM has not answered, which is no matter of the peer: check that it is not stopped, and its own log',
  disk: 'That is no matter of the peer: check the disk that it is read from',
  target:
    'That is no matter of the peer: check the disk of the target, or allow more time (commitTimeoutMs, --commit-timeout)',
  qmp: 'Is QEMU stopped, or is another client on its QMP socket?',
} as const;

/** One or two sentences, for the end of a message. */
export function remedyOf(waitingFor: WaitingFor): string {
  const remedy = REMEDY[waitingFor];
  return remedy.endsWith('?') ? remedy : `${remedy}.`;
}

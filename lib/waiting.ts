/** What a wait depends on: if it fails, the place to look. */
export type WaitingFor = keyof typeof REMEDY;

const REMEDY = {
  peer: 'Check that the peer is alive and not stopped, and the network in between',
  network: 'Check the network to the peer, and that the peer is not stopped: a stopped one accepts nothing',
  'peer-commit':
    'The destination may still be working: look at its disk and its log. Allow more time next time (commitTimeoutMs, --commit-timeout)',
  vmm: 'The VMM has not answered (the peer is not the cause): check that it is not stopped, and its own log',
  disk: 'The peer is not the cause: check the disk that it is read from',
  target:
    'The peer is not the cause: check the disk of the target, or allow more time (commitTimeoutMs, --commit-timeout)',
  memory: 'The peer is not the cause: check the memory of this host, and the RDMA device that pins it',
  qmp: 'Is QEMU stopped, or is another client on its QMP socket?',
} as const;

/** One or two sentences, for the end of a message. */
export function remedyOf(waitingFor: WaitingFor): string {
  const remedy = REMEDY[waitingFor];
  return remedy.endsWith('?') ? remedy : `${remedy}.`;
}

/** What the addon tells of other processes of this host, declared. */
export interface NativeProcesses {
  /** Who listens at the other end of a connected unix socket: its process, by the kernel (SO_PEERCRED). IO_ERROR: it is none. */
  peerProcess(fd: number): number;
}
